require "openssl"

# True if `body`, the raw bytes before any parsing, was signed with `key`, and not long ago.
def verify(header, body, key, tolerance_seconds: 300)
  parts = header.to_s.b.split(",").map { |part| part.split("=", 2).map(&:strip) }
  timestamps = parts.filter_map { |name, value| value if name == "ts" }
  return false unless timestamps.one? && timestamps.first.match?(/\A[0-9]{1,12}\z/)
  return false if (Time.now.to_i - timestamps.first.to_i).abs > tolerance_seconds

  bare = key.strip.delete_prefix("whsec_").sub(/=+\z/, "") # somebody may have cut off one of these
  keys = [key.strip, "whsec_#{bare}#{"=" * (-bare.bytesize % 4)}"]
  expected = keys.map { |each| OpenSSL::HMAC.hexdigest("SHA256", each, "#{timestamps.first}.".b + body.b) }
  given = parts.filter_map { |name, value| value.to_s.downcase if name == "sig" }
  given.any? { |one| expected.any? { |other| OpenSSL.secure_compare(one, other) } }
end
