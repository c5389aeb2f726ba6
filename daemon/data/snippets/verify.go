package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Verify reports whether body, the raw bytes before any parsing, was signed with key, and not long ago.
func Verify(header string, body []byte, key string, tolerance time.Duration) bool {
	var timestamps, signatures []string
	for _, part := range strings.Split(header, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "ts":
			timestamps = append(timestamps, value)
		case "sig":
			signatures = append(signatures, strings.ToLower(value))
		}
	}
	if len(timestamps) != 1 {
		return false
	}
	seconds, err := strconv.ParseUint(timestamps[0], 10, 40)
	if err != nil || time.Since(time.Unix(int64(seconds), 0)).Abs() > tolerance {
		return false
	}
	key = strings.TrimSpace(key)
	bare := strings.TrimRight(strings.TrimPrefix(key, "whsec_"), "=") // somebody may have cut off one of these
	padded := "whsec_" + bare + strings.Repeat("=", (4-len(bare)%4)%4)
	for _, each := range []string{key, padded} {
		mac := hmac.New(sha256.New, []byte(each))
		mac.Write([]byte(timestamps[0] + "."))
		mac.Write(body)
		expected := []byte(hex.EncodeToString(mac.Sum(nil)))
		for _, signature := range signatures {
			if hmac.Equal([]byte(signature), expected) {
				return true
			}
		}
	}
	return false
}
