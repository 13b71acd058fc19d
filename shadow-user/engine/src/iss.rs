//! Initial sequence numbers and timestamp offsets of the emulated client (RFC 6528).

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher24;

use crate::seq::SeqNum;
use crate::time::Instant;

/// A key that only this run of the daemon knows.
pub type Secret = [u8; 16];

/// The initial sequence number for a connection begun `now`.
///
/// A port can so be used again while the shadow holds the old connection in
/// TIME-WAIT: the new number is beyond the old connection's (RFC 6191).
pub(crate) fn iss(secret: &Secret, local: SocketAddr, remote: SocketAddr, now: Instant) -> SeqNum {
    // RFC 6528, 3: "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)
    //  where M is the 4 microsecond timer, and F() is a pseudorandom function"
    let m = (now.as_nanos() / 4_000) as u32;
    SeqNum::new(m.wrapping_add(f(secret, local, remote)))
}

fn f(secret: &Secret, local: SocketAddr, remote: SocketAddr) -> u32 {
    let mut hasher = SipHasher24::new_with_key(secret);
    for address in [local, remote] {
        match address.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write(&address.port().to_be_bytes());
    }
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn advances_with_the_four_microsecond_clock() {
        let local = "10.0.0.1:16384".parse().unwrap();
        let remote = "10.0.0.2:80".parse().unwrap();
        let then = Instant::from_nanos(1_000_000_000);
        let first = iss(&[7; 16], local, remote, then);
        let later = iss(&[7; 16], local, remote, then + Duration::from_millis(4));
        assert_eq!(later.distance(first), 1_000);
    }

    #[test]
    fn differs_by_tuple_and_secret() {
        let local = "10.0.0.1:16384".parse().unwrap();
        let remote = "10.0.0.2:80".parse().unwrap();
        let now = Instant::from_nanos(0);
        let one = iss(&[7; 16], local, remote, now);
        assert_ne!(one, iss(&[7; 16], "10.0.0.1:16385".parse().unwrap(), remote, now));
        assert_ne!(one, iss(&[8; 16], local, remote, now));
    }
}
