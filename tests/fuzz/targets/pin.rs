//! Session ids and pins: what is no pin is none, what was minted verifies, and one changed bit does not.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use pinring::{
    mcp::session::{ClientSessionId, ServerSessionId},
    pin::{Keys, Kind, Pin, Secret, Verdict},
    ring::Coordinate,
};

const KINDS: [Kind; 4] = [
    Kind::Session,
    Kind::Endpoint,
    Kind::RequestState,
    Kind::Task,
];

fuzz_target!(|input: (u64, u16, &[u8])| {
    let (coordinate, flipped, string) = input;
    let keys = Keys::try_new(&[Secret::try_new(&[7; 32]).unwrap(), Secret::zero()]).unwrap();
    if let Ok(value) = HeaderValue::from_bytes(string) {
        let visible = string.iter().all(u8::is_ascii_graphic) && !string.is_empty();
        let (client, server) = (
            ClientSessionId::try_from(value.clone()),
            ServerSessionId::try_from(value),
        );
        assert!(visible || client.is_err());
        assert_eq!(visible && string.len() <= 4096, server.is_ok());
    }
    for kind in KINDS {
        if let Some(pin) = Pin::parse(kind, string) {
            assert_eq!(pin.string.len() + 33, string.len());
            // Nobody guesses 80 bits, but the zero key is known to all.
            let _verdict = keys.verify(&pin, None);
        }
        if string.is_empty() {
            continue;
        }
        let minted = keys.mint(kind, Coordinate(coordinate), None, string);
        let mut carried = [string, b"-", &minted].concat();
        let pin = Pin::parse(kind, &carried).expect("what is minted has the shape of a pin");
        assert_eq!(
            (pin.string, pin.coordinate),
            (string, Coordinate(coordinate))
        );
        assert_eq!(keys.verify(&pin, None), Verdict::Good);
        let at = usize::from(flipped >> 3) % carried.len();
        carried[at] ^= 1 << (flipped & 7);
        if let Some(pin) = Pin::parse(kind, &carried) {
            assert_ne!(
                keys.verify(&pin, None),
                Verdict::Good,
                "bit {flipped} of {carried:?}"
            );
        }
    }
});
