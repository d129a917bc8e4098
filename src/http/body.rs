//! A request's body, read whole under a limit that holds before and after decompression.
//!
//! The compressed bytes are collected first (they are within the limit too) and then decoded up to one byte over it, so
//! a bomb costs no more memory than an honest body. Decoding runs beside the worker's other requests.

use std::io::Read;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::{HttpMessage, HttpRequest, mime, web};
use futures_util::StreamExt as _;

use super::api::lenient::Media;
use super::problem::{Kind, Problem};

/// Windows of zstd up to 8 MiB (RFC 9659): more is a caller who wants our memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// A body is believed so much of its length before it is there.
const TRUSTED_BYTES_MAX: usize = 64 << 10;
/// What the brotli reader takes at once.
const BROTLI_BUFFER_BYTES: usize = 8 << 10;

/// What a body may cost.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes, before and after decompression.
    pub bytes_max: usize,
    /// It must be here within this.
    pub timeout: Duration,
}

impl BodyLimits {
    /// The same for bodies that may be no longer than this.
    #[must_use]
    pub fn at_most(self, bytes_max: usize) -> Self {
        Self { bytes_max: self.bytes_max.min(bytes_max), ..self }
    }
}

/// A body as it came in.
pub struct Raw {
    coding: Coding,
    bytes: Vec<u8>,
}

impl Raw {
    /// Its bytes before any decompression.
    #[must_use]
    pub fn as_sent(&self) -> &[u8] {
        &self.bytes
    }

    /// What it holds.
    pub async fn decoded(self, limits: BodyLimits) -> Result<Vec<u8>, Problem> {
        let Self { coding, bytes } = self;
        if coding == Coding::Identity {
            return Ok(bytes);
        }
        let decoded = web::block(move || decode(coding, &bytes, limits.bytes_max)).await;
        decoded.map_err(|error| Problem::caused(Kind::Internal, &error))?
    }
}

/// How a body is coded (RFC 9110 section 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Reads a body of JSON or a form.
pub async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    limits: BodyLimits,
) -> Result<(Media, Vec<u8>), Problem> {
    let media = media(request)?;
    Ok((media, bytes(request, payload, limits).await?))
}

/// Reads a body of JSON that may be missing; an empty one is missing, whatever its type.
pub async fn read_optional_json(
    request: &HttpRequest,
    payload: web::Payload,
    limits: BodyLimits,
) -> Result<Option<Vec<u8>>, Problem> {
    let body = bytes(request, payload, limits).await?;
    if body.is_empty() {
        return Ok(None);
    }
    match media(request) {
        Ok(Media::Json) => Ok(Some(body)),
        Ok(Media::Form) | Err(_) => Err(Problem::saying(Kind::UnsupportedMediaType, "send application/json")),
    }
}

/// What a body holds that is JSON unless it says that it is a form.
#[must_use]
pub fn form_or_json(request: &HttpRequest) -> Media {
    media(request).unwrap_or(Media::Json)
}

async fn bytes(request: &HttpRequest, payload: web::Payload, limits: BodyLimits) -> Result<Vec<u8>, Problem> {
    raw(request, payload, limits).await?.decoded(limits).await
}

/// Reads a body of any type as it came in.
pub async fn raw(request: &HttpRequest, payload: web::Payload, limits: BodyLimits) -> Result<Raw, Problem> {
    let coding = coding(request.headers())?;
    refuse_declared(request.headers(), limits.bytes_max)?;
    let likely = declared(request.headers()).unwrap_or(0).min(TRUSTED_BYTES_MAX);
    let collected = tokio::time::timeout(limits.timeout, collect(payload, limits.bytes_max, likely));
    let bytes = collected.await.map_err(|_| Problem::new(Kind::Timeout))??;
    Ok(Raw { coding, bytes })
}

/// What the body holds, by its Content-Type.
fn media(request: &HttpRequest) -> Result<Media, Problem> {
    let refuse = |detail| Problem::saying(Kind::UnsupportedMediaType, detail);
    let wanted = "send application/json or application/x-www-form-urlencoded";
    if request.headers().get_all(CONTENT_TYPE).count() > 1 {
        return Err(refuse("more than one Content-Type"));
    }
    let mime = request.mime_type().ok().flatten().ok_or_else(|| refuse(wanted))?;
    let utf8 = mime.get_param(mime::CHARSET).is_none_or(|charset| charset == "utf-8" || charset == "utf8");
    if !utf8 {
        return Err(refuse("send the body as UTF-8"));
    }
    match (mime.type_().as_str(), mime.subtype().as_str(), mime.suffix()) {
        ("application" | "text", "json", None) => Ok(Media::Json),
        (_, _, Some(suffix)) if suffix == mime::JSON => Ok(Media::Json),
        ("application", "x-www-form-urlencoded", None) => Ok(Media::Form),
        _ => Err(refuse(wanted)),
    }
}

/// How the body is coded. One coding at most: nothing is gained by stacking them.
fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let refuse =
        || Problem::saying(Kind::UnsupportedMediaType, "Content-Encoding may be one of gzip, deflate, br, zstd");
    let mut given = headers.get_all(CONTENT_ENCODING);
    let Some(value) = given.next() else { return Ok(Coding::Identity) };
    if given.next().is_some() {
        return Err(refuse());
    }
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "deflate" => Ok(Coding::Deflate),
        "br" => Ok(Coding::Brotli),
        "zstd" => Ok(Coding::Zstd),
        _ => Err(refuse()),
    }
}

/// Refuses a body that says itself that it is too large, before any of it is read.
fn refuse_declared(headers: &HeaderMap, bytes_max: usize) -> Result<(), Problem> {
    match declared(headers) {
        Some(bytes) if bytes > bytes_max => Err(too_large(bytes_max)),
        _ => Ok(()),
    }
}

/// What a body says of its own length.
fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::saying(Kind::TooLarge, format!("a body may have {bytes_max} bytes, before and after decompression"))
}

async fn collect(mut payload: web::Payload, bytes_max: usize, likely: usize) -> Result<Vec<u8>, Problem> {
    let mut raw = Vec::with_capacity(likely);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| match error {
            PayloadError::Overflow => too_large(bytes_max),
            _ => Problem::saying(Kind::Malformed, "the body ends early or is not framed as HTTP asks"),
        })?;
        if raw.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        raw.extend_from_slice(&chunk);
    }
    Ok(raw)
}

/// The decoded bytes, at most `bytes_max`.
fn decode(coding: Coding, raw: &[u8], bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let bad = |_| Problem::saying(Kind::Malformed, "the body is not what its Content-Encoding says");
    match coding {
        Coding::Identity => bounded(raw, bytes_max),
        Coding::Gzip => bounded(flate2::read::MultiGzDecoder::new(raw), bytes_max),
        Coding::Deflate => bounded(flate2::read::ZlibDecoder::new(raw), bytes_max),
        // The first byte of a "large window" stream, which may ask for a gigabyte; HTTP's brotli (RFC 7932) has none.
        Coding::Brotli if raw.first().is_some_and(|byte| byte & 0x7f == 0x11) => {
            Err(bad(std::io::ErrorKind::InvalidData.into()))
        }
        Coding::Brotli => bounded(brotli::Decompressor::new(raw, BROTLI_BUFFER_BYTES), bytes_max),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(bad)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(bad)?;
            bounded(decoder, bytes_max)
        }
    }
}

fn bounded(reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let mut decoded = Vec::new();
    let over = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(over).read_to_end(&mut decoded);
    if decoded.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    match read {
        Ok(_) => Ok(decoded),
        Err(_) => Err(Problem::saying(Kind::Malformed, "the body is not what its Content-Encoding says")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use actix_web::ResponseError as _;
    use actix_web::test::TestRequest;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        brotli::CompressorWriter::new(&mut out, 4096, 9, 22).write_all(bytes).unwrap();
        out
    }

    fn codings(bytes: &[u8]) -> [(Coding, Vec<u8>); 4] {
        [
            (Coding::Gzip, gzip(bytes)),
            (Coding::Deflate, zlib(bytes)),
            (Coding::Brotli, brotli(bytes)),
            (Coding::Zstd, zstd::encode_all(bytes, 3).unwrap()),
        ]
    }

    fn status<T>(result: Result<T, Problem>) -> u16 {
        result.err().map_or(200, |problem| problem.status_code().as_u16())
    }

    #[test]
    fn a_body_of_any_coding_is_read_up_to_the_limit() {
        for (coding, raw) in codings(&[7; 1000]) {
            assert_eq!(decode(coding, &raw, 1000).unwrap(), [7; 1000], "{coding:?}");
            assert_eq!(status(decode(coding, &raw, 999)), 413, "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_is_not_inflated_beyond_the_limit() {
        for (coding, raw) in codings(&vec![0; 8 << 20]) {
            assert!(raw.len() < 1 << 20, "{coding:?}");
            assert_eq!(status(decode(coding, &raw, 1 << 16)), 413, "{coding:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_what_it_says_is_malformed() {
        for (coding, raw) in codings(b"{\"a\":1}") {
            assert_eq!(status(decode(coding, b"{\"recipient\":\"x\"}", 1000)), 400, "{coding:?}");
            assert_eq!(status(decode(coding, &raw[..raw.len() - 3], 1000)), 400, "{coding:?} cut");
        }
        assert_eq!(status(decode(Coding::Brotli, &[0x11, 0x1e, 0, 0], 1000)), 400);
    }

    #[test]
    fn only_json_and_forms_in_utf8_are_read() {
        for (value, wanted) in [
            ("application/json", 200),
            ("text/json; charset=UTF-8", 200),
            ("application/vnd.x+json", 200),
            ("application/x-www-form-urlencoded;charset=utf-8", 200),
            ("application/json; charset=iso-8859-1", 415),
            ("text/plain", 415),
            ("multipart/form-data; boundary=x", 415),
            ("", 415),
            ("nonsense", 415),
        ] {
            let request = TestRequest::post().insert_header((CONTENT_TYPE, value)).to_http_request();
            assert_eq!(status(media(&request)), wanted, "{value}");
        }
        assert_eq!(status(media(&TestRequest::post().to_http_request())), 415);
    }

    #[test]
    fn unknown_and_stacked_codings_are_refused() {
        for (value, wanted) in [("GZIP", 200), ("identity", 200), ("gzip, gzip", 415), ("compress", 415), ("", 415)] {
            let request = TestRequest::post().insert_header((CONTENT_ENCODING, value)).to_http_request();
            assert_eq!(status(coding(request.headers())), wanted, "{value}");
        }
        let twice = TestRequest::post().append_header((CONTENT_ENCODING, "gzip"));
        let twice = twice.append_header((CONTENT_ENCODING, "br")).to_http_request();
        assert_eq!(status(coding(twice.headers())), 415);
    }
}
