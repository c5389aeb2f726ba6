<?php

// True if $body, the raw bytes before any parsing, was signed with $key, and not long ago.
function verify(?string $header, string $body, string $key, int $toleranceSeconds = 300): bool
{
    $given = ['ts' => [], 'sig' => []];
    foreach (explode(',', $header ?? '') as $part) {
        [$name, $value] = explode('=', $part, 2) + ['', ''];
        $given[trim($name)][] = trim($value);
    }
    if (count($given['ts']) !== 1 || !preg_match('/^[0-9]{1,12}$/D', $given['ts'][0])) {
        return false;
    }
    if (abs(time() - (int) $given['ts'][0]) > $toleranceSeconds) {
        return false;
    }
    $bare = rtrim(preg_replace('/^whsec_/', '', trim($key)), '='); // somebody may have cut off one of these
    foreach ([trim($key), 'whsec_' . $bare . str_repeat('=', (4 - strlen($bare) % 4) % 4)] as $each) {
        $expected = hash_hmac('sha256', $given['ts'][0] . '.' . $body, $each);
        foreach ($given['sig'] as $signature) {
            if (hash_equals($expected, strtolower($signature))) {
                return true;
            }
        }
    }
    return false;
}
