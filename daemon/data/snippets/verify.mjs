import { createHmac, timingSafeEqual } from "node:crypto";

// True if `body`, the raw bytes before any parsing, was signed with `key`, and not long ago.
export function verify(header, body, key, toleranceSeconds = 300) {
  const parts = (header ?? "").split(",").map((part) => part.split("=").map((text) => text.trim()));
  const timestamps = parts.filter(([name]) => name === "ts").map(([, value = ""]) => value);
  if (timestamps.length !== 1 || !/^[0-9]{1,12}$/.test(timestamps[0])) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamps[0])) > toleranceSeconds) return false;
  const bare = key.trim().replace(/^whsec_/, "").replace(/=+$/, ""); // somebody may have cut off one of these
  const keys = [key.trim(), `whsec_${bare}${"=".repeat((4 - (bare.length % 4)) % 4)}`];
  const sign = (each) => createHmac("sha256", each).update(`${timestamps[0]}.`).update(body).digest("hex");
  const expected = keys.map((each) => Buffer.from(sign(each)));
  return parts.some(([name, value = ""]) => {
    const given = Buffer.from(value.toLowerCase());
    return name === "sig" && expected.some((each) => each.length === given.length && timingSafeEqual(each, given));
  });
}
