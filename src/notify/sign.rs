//! The signature of a notice: HMAC-SHA256 over its time stamp, a dot and its body, all of it.
//!
//! The stamp is signed with the body, so that a receiver that wants fresh notices only cannot be told an old one again.

use super::hook::Secret;
use ring::hmac;

/// The version of the scheme, with which the header begins.
const VERSION: &str = "v1";

/// The value of the header `Sendwarden-Signature`.
pub fn signature(secret: &Secret, timestamp: i64, body: &[u8]) -> String {
    let stamp = timestamp.to_string();
    format!("{VERSION}={}", hmac_hex(secret.bytes(), &[stamp.as_bytes(), b".", body]))
}

fn hmac_hex(key: &[u8], parts: &[&[u8]]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hmac_of_rfc_4231() {
        let case_2 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hmac_hex(b"Jefe", &[b"what do ya want ", b"for nothing?"]), case_2);
        let case_6 = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        let data: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hmac_hex(&[0xaa; 131], &[data]), case_6);
    }

    /// printf %s '1700000000.{"id":"x"}' | openssl dgst -sha256 -hmac 0123456789abcdef
    #[test]
    fn stamp_and_body_are_signed_to_their_last_byte() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        let good = signature(&secret, 1_700_000_000, b"{\"id\":\"x\"}");
        assert_eq!(good, "v1=f1cf8ba6a2fa64bd8193b9db564f42cd35d0fc2a46f6a2c2903f897838a7f23a");
        for (timestamp, body) in [
            (1_700_000_001, &b"{\"id\":\"x\"}"[..]),
            (1_700_000_000, b"{\"id\":\"y\"}"),
            (1_700_000_000, b"{\"id\":\"x\"} "),
        ] {
            assert_ne!(signature(&secret, timestamp, body), good, "{timestamp} {body:?}");
        }
        assert_ne!(signature(&Secret::new("0123456789abcdeF").unwrap(), 1_700_000_000, b"{\"id\":\"x\"}"), good);
    }
}
