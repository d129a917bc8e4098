//! From which address a request comes: its peer's, or what a trusted proxy says of its own.
//!
//! `X-Forwarded-For` is a list to whose right end each proxy adds whom it saw. Only what trusted proxies added can be
//! believed, so it is read from the right: the first address that is not a trusted proxy's is the client. Whatever
//! stands further left anybody may have written. `Forwarded` (RFC 7239) is not read: a proxy that sets one of the two
//! hands on the other as its client sent it, and then nobody knows which to believe.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, X_FORWARDED_FOR};

use crate::domain::network::Network;

/// The client's address.
pub(super) fn address(request: &HttpRequest, trusted: &[Network]) -> IpAddr {
    // Only a request that a test made has no peer.
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    behind(peer, request.headers(), trusted)
}

fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let lines: Vec<&str> = headers.get_all(X_FORWARDED_FOR).map(|value| value.to_str().unwrap_or_default()).collect();
    let mut client = peer;
    for text in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        // What is no address was not written by a proxy of ours: whoever handed it on is all we know.
        let Some(address) = parse(text.trim()) else { return client };
        client = address;
        if !is_trusted(address) {
            return client;
        }
    }
    client
}

/// An address, perhaps in brackets or with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_client_is_the_right_most_address_that_is_no_trusted_proxy() {
        let trusted: Vec<Network> = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into();
        for (peer, forwarded, client) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.2.3.4", "198.51.100.1, 10.0.0.7"], "198.51.100.1"),
            ("127.0.0.1", &["1.2.3.4,198.51.100.1:4711,10.0.0.7"], "198.51.100.1"),
            ("127.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("fd00::5", &["[2001:db8::1]"], "2001:db8::1"),
            ("127.0.0.1", &["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
            ("127.0.0.1", &["198.51.100.1, unknown, 10.0.0.7"], "10.0.0.7"),
            ("127.0.0.1", &[""], "127.0.0.1"),
        ] {
            let request = TestRequest::get().peer_addr(SocketAddr::new(peer.parse().unwrap(), 1));
            let request =
                forwarded.iter().fold(request, |request, line| request.append_header((X_FORWARDED_FOR, *line)));
            let found = address(&request.to_http_request(), &trusted);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
        }
    }
}
