<?php

// True if $body, the raw bytes before any parsing, was signed with $key, and not long ago.
function verify(?string $header, string $body, string $key, int $toleranceSeconds = 300): bool
{
    $given = ['ts' => [], 'sig' => []];
    foreach (explode(',', $header ?? '') as $part) {
        [$name, $value] = explode('=', trim($part), 2) + ['', ''];
        $given[$name][] = $value;
    }
    if (count($given['ts']) !== 1 || !preg_match('/^[0-9]{1,12}$/D', $given['ts'][0])) {
        return false;
    }
    if (abs(time() - (int) $given['ts'][0]) > $toleranceSeconds) {
        return false;
    }
    $expected = hash_hmac('sha256', $given['ts'][0] . '.' . $body, $key);
    foreach ($given['sig'] as $signature) {
        if (hash_equals($expected, $signature)) {
            return true;
        }
    }
    return false;
}
