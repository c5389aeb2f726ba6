require "openssl"

# True if `body`, the raw bytes before any parsing, was signed with `key`, and not long ago.
def verify(header, body, key, tolerance_seconds: 300)
  parts = header.to_s.b.split(",").map { |part| part.strip.split("=", 2) }
  timestamps = parts.filter_map { |name, value| value if name == "ts" }
  return false unless timestamps.one? && timestamps.first.match?(/\A[0-9]{1,12}\z/)
  return false if (Time.now.to_i - timestamps.first.to_i).abs > tolerance_seconds

  expected = OpenSSL::HMAC.hexdigest("SHA256", key, "#{timestamps.first}.".b + body.b)
  parts.any? { |name, value| name == "sig" && OpenSSL.secure_compare(value.to_s, expected) }
end
