import { createHmac, timingSafeEqual } from "node:crypto";

// True if `body`, the raw bytes before any parsing, was signed with `key`, and not long ago.
export function verify(header, body, key, toleranceSeconds = 300) {
  const parts = (header ?? "").split(",").map((part) => part.trim().split("="));
  const timestamps = parts.filter(([name]) => name === "ts").map(([, value = ""]) => value);
  if (timestamps.length !== 1 || !/^[0-9]{1,12}$/.test(timestamps[0])) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamps[0])) > toleranceSeconds) return false;
  const expected = Buffer.from(createHmac("sha256", key).update(`${timestamps[0]}.`).update(body).digest("hex"));
  return parts.some(([name, value = ""]) => {
    const given = Buffer.from(value);
    return name === "sig" && given.length === expected.length && timingSafeEqual(given, expected);
  });
}
