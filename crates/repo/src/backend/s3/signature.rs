//! Signature Version 4 in the `Authorization` header, as Amazon describes it for S3.
//! It must never see a clock: the moment is part of what is signed, and is given.

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::credentials::Credentials;

/// What stays as it is in a query (RFC 3986, "unreserved").
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// What stays as it is in a path.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// A request as far as it is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Encoded.
    pub(super) path: &'a str,
    /// Encoded and in order, as [`query`] makes it.
    pub(super) query: &'a str,
    /// Names in lower case; the host and all that begin with `x-amz-` must be among them.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// Hexadecimal, as in `x-amz-content-sha256`.
    pub(super) content_hash: &'a str,
}

impl Signed<'_> {
    /// The header's value. `moment` is `YYYYMMDDTHHMMSSZ`, as in `x-amz-date`.
    pub(super) fn authorization(
        &self,
        credentials: &Credentials,
        region: &str,
        moment: &str,
    ) -> String {
        let mut headers: Vec<_> = self.headers.to_vec();
        headers.sort_unstable();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let request = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{}",
            self.method, self.path, self.query, self.content_hash
        );
        let day = moment.get(..8).unwrap_or_default();
        let scope = format!("{day}/{region}/s3/aws4_request");
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}",
            hex(&Sha256::digest(request))
        );
        let mut key = format!("AWS4{}", credentials.secret.reveal()).into_bytes();
        for part in [day, region, "s3", "aws4_request"] {
            key = keyed_hash(&key, part.as_bytes());
        }
        let signature = hex(&keyed_hash(&key, to_sign.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            credentials.key_id
        )
    }
}

/// A path as it is sent and signed.
pub(super) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// A query as it is sent and signed.
pub(super) fn query(parameters: &[(&str, String)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let mut parameters: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    parameters.sort_unstable();
    parameters.join("&")
}

/// The hash of a body in pieces, hexadecimal.
pub(super) fn content_hash(pieces: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update(piece);
    }
    hex(&hash.finalize())
}

fn keyed_hash(key: &[u8], text: &[u8]) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new(); // A key of any length will do, so this is never seen.
    };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Secret;

    /// From Amazon's documentation, "Authenticating Requests: Using the Authorization Header".
    fn signature(
        method: &str,
        path: &str,
        query: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> String {
        let credentials = Credentials {
            key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        };
        let content_hash = content_hash(&[body]);
        let mut headers = vec![
            ("host", "examplebucket.s3.amazonaws.com"),
            ("x-amz-content-sha256", content_hash.as_str()),
            ("x-amz-date", "20130524T000000Z"),
        ];
        headers.extend_from_slice(more);
        let signed = Signed {
            method,
            path,
            query,
            headers: &headers,
            content_hash: &content_hash,
        };
        signed.authorization(&credentials, "us-east-1", "20130524T000000Z")
    }

    #[test]
    fn the_documented_requests_get_the_documented_signatures() {
        assert_eq!(
            signature("GET", "/test.txt", "", &[("range", "bytes=0-9")], b""),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let more = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        let path = path("/test$file.text");
        assert_eq!(path, "/test%24file.text");
        let put = signature("PUT", &path, "", &more, b"Welcome to Amazon S3.");
        assert!(
            put.ends_with("=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
            "{put}"
        );
        let lifecycle = query(&[("lifecycle", String::new())]);
        let get = signature("GET", "/", &lifecycle, &[], b"");
        assert!(
            get.ends_with("=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            "{get}"
        );
        let list = query(&[("prefix", "J".into()), ("max-keys", "2".into())]);
        let list = signature("GET", "/", &list, &[], b"");
        assert!(
            list.ends_with("=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
            "{list}"
        );
    }

    #[test]
    fn what_a_query_holds_is_encoded_and_in_order() {
        let query = query(&[("prefix", "a b/+ü".into()), ("list-type", "2".into())]);
        assert_eq!(query, "list-type=2&prefix=a%20b%2F%2B%C3%BC");
        assert_eq!(path("/bucket/a b/+ü~"), "/bucket/a%20b/%2B%C3%BC~");
    }
}
