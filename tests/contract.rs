//! The wire contracts, checked against vectors that another implementation made (`vectors/make.py`).
//!
//! A case here that fails means pins that clients hold would break. The vectors are never edited.

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName};
use pinring::backend::Name;
use pinring::identity::{Source, trusted::Client};
use pinring::pin::{Binding, Keys, Kind, Pin, Secret, Verdict};
use pinring::ring::{Coordinate, Nodes, Ring, VIRTUAL_NODES, hash};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const RING: &str = include_str!("vectors/ring.json");
const PIN: &str = include_str!("vectors/pin.json");

#[derive(Deserialize)]
struct RingVectors {
    hashes: Vec<HashCase>,
    backends: Vec<BackendCase>,
    fleets: Vec<Fleet>,
    carriers: Vec<Carrier>,
}

#[derive(Deserialize)]
struct HashCase {
    bytes: Bytes,
    xxh3_64: U64,
}

#[derive(Deserialize)]
struct BackendCase {
    name: Bytes,
    nodes: Vec<Node>,
    digest: U64,
}

#[derive(Deserialize)]
struct Node {
    number: u32,
    point: U64,
}

#[derive(Deserialize)]
struct Fleet {
    names: Vec<Bytes>,
    lookups: Vec<Lookup>,
}

#[derive(Deserialize)]
struct Lookup {
    key: Option<Bytes>,
    position: U64,
    owner: Bytes,
    exact: bool,
}

#[derive(Deserialize)]
struct Carrier {
    string: Bytes,
    name: Bytes,
    number: usize,
    coordinate: U64,
}

#[derive(Deserialize)]
struct PinVectors {
    keys: Vec<KeyCase>,
    cases: Vec<PinCase>,
    also_reads: Vec<PinCase>,
    no_shape: Vec<NoShape>,
    bad: Vec<Bad>,
    unknown_key: Vec<UnknownKey>,
    bound: Vec<Bound>,
}

#[derive(Deserialize)]
struct KeyCase {
    key: Hex,
    key_id: Hex,
}

#[derive(Deserialize)]
struct PinCase {
    kind: u8,
    key: Hex,
    key_id: Hex,
    binding: Hex,
    coordinate: U64,
    string: Bytes,
    raw: Hex,
    characters: String,
    #[serde(alias = "query")]
    client: Bytes,
}

/// A pin of somebody's session, with what a request of that one says of itself.
#[derive(Deserialize)]
struct Bound {
    bind: String,
    header: Said,
    #[serde(flatten)]
    case: PinCase,
}

#[derive(Deserialize)]
struct Said {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct NoShape {
    kind: u8,
    text: Bytes,
    why: String,
}

#[derive(Deserialize)]
struct Bad {
    kind: u8,
    key: Hex,
    binding: Hex,
    text: Bytes,
    why: String,
}

#[derive(Deserialize)]
struct UnknownKey {
    kind: u8,
    keys: Vec<Hex>,
    key_id: Hex,
    text: Bytes,
    why: String,
}

/// A byte string: `{"ascii": "…"}` or `{"hex": "…"}`.
#[derive(Deserialize)]
#[serde(from = "Written")]
struct Bytes(Vec<u8>);

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Written {
    Ascii(String),
    Hex(Hex),
}

impl From<Written> for Bytes {
    fn from(written: Written) -> Self {
        match written {
            Written::Ascii(text) => Self(text.into_bytes()),
            Written::Hex(Hex(bytes)) => Self(bytes),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Hex(Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = data_encoding::DecodeError;

    fn try_from(digits: String) -> Result<Self, Self::Error> {
        HEXLOWER.decode(digits.as_bytes()).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct U64(u64);

impl TryFrom<String> for U64 {
    type Error = std::num::ParseIntError;

    fn try_from(digits: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&digits, 16).map(Self)
    }
}

fn vectors<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("the vectors have the form that is read here")
}

fn name(bytes: &Bytes) -> Name {
    let text = std::str::from_utf8(&bytes.0).expect("names in the vectors are ASCII");
    Name::try_new(text).expect("names in the vectors are allowed")
}

fn secret(Hex(key): &Hex) -> Secret {
    if key.iter().all(|byte| *byte == 0) {
        assert_eq!(key.len(), 32, "the zero key");
        Secret::zero()
    } else {
        Secret::try_new(key).expect("secrets in the vectors are strong enough")
    }
}

fn keys<'a>(keys: impl IntoIterator<Item = &'a Hex>) -> Keys {
    let secrets: Vec<Secret> = keys.into_iter().map(secret).collect();
    assert!(!secrets.is_empty(), "a reader in the vectors has keys");
    Keys::try_new(&secrets).expect("key ids in the vectors differ")
}

fn binding(Hex(bytes): &Hex) -> Option<Binding> {
    let bytes = (!bytes.is_empty()).then_some(bytes)?;
    let binding = bytes.as_slice().try_into();
    Some(binding.expect("a binding is 32 bytes"))
}

fn kind(number: u8) -> Kind {
    match number {
        1 => Kind::Session,
        2 => Kind::Endpoint,
        3 => Kind::RequestState,
        4 => Kind::Task,
        _ => panic!("the vectors name kind {number}"),
    }
}

/// What the client sees, from the backend's string and the 32 characters.
fn attach(kind: Kind, string: &[u8], characters: &[u8]) -> Vec<u8> {
    match kind {
        Kind::Endpoint if string.is_empty() => [b"pinring=", characters].concat(),
        Kind::Endpoint => [string, b"&pinring=", characters].concat(),
        Kind::Session | Kind::RequestState | Kind::Task => [string, b"-", characters].concat(),
    }
}

/// The pin in what a client sends. A query is taken apart here, as the contract says, for `pin` has to
/// do with the parameter's value only.
fn read(kind: Kind, text: &[u8]) -> Option<Pin<'_>> {
    match kind {
        Kind::Session | Kind::RequestState | Kind::Task => Pin::parse(kind, text),
        Kind::Endpoint => {
            let (before, characters) = text.split_at(text.len().checked_sub(32)?);
            let before = before.strip_suffix(b"pinring=")?;
            let string = match before.split_last() {
                None => before,
                Some((b'&', string)) => string,
                Some(_) => return None,
            };
            Pin::parse_encoded(kind, string, characters)
        }
    }
}

fn assert_reads_good(keys: &Keys, case: &PinCase) {
    let Some(pin) = read(kind(case.kind), &case.client.0) else {
        panic!("{} is not read as a pin", case.characters)
    };
    assert_eq!(pin.string, case.string.0);
    assert_eq!(pin.kind, kind(case.kind));
    assert_eq!([pin.key.0], *case.key_id.0);
    assert_eq!(pin.coordinate, Coordinate(case.coordinate.0));
    let verdict = keys.verify(&pin, binding(&case.binding).as_ref());
    assert_eq!(verdict, Verdict::Good, "{}", case.characters);
}

#[test]
fn keys_hash_to_the_positions_that_the_vectors_say() {
    let RingVectors { hashes, .. } = vectors(RING);
    assert!(hashes.len() >= 24);
    for case in hashes {
        let position = hash::position(&case.bytes.0);
        assert_eq!(
            position,
            Coordinate(case.xxh3_64.0),
            "{}",
            case.bytes.0.escape_ascii()
        );
    }
}

#[test]
fn virtual_nodes_are_where_the_vectors_say() {
    let RingVectors { backends, .. } = vectors(RING);
    assert!(backends.len() >= 6);
    for backend in backends {
        let name = name(&backend.name);
        let nodes = Nodes::of(&name);
        for Node { number, point } in backend.nodes {
            let point = Coordinate(point.0);
            assert_eq!(nodes.points()[number as usize], point, "{name} {number}");
            let computed = hash::virtual_nodes(&name).nth(number as usize);
            assert_eq!(computed, Some(point), "{name} {number}");
        }
        let all: Vec<u8> = nodes
            .points()
            .iter()
            .flat_map(|point| point.0.to_be_bytes())
            .collect();
        assert_eq!(all.len(), 160 * 8);
        assert_eq!(
            hash::position(&all),
            Coordinate(backend.digest.0),
            "all nodes of {name}"
        );
    }
}

#[test]
fn the_owner_of_a_position_is_who_the_vectors_say_in_any_order_of_members() {
    let RingVectors { fleets, .. } = vectors(RING);
    assert!(fleets.len() >= 3);
    for fleet in fleets {
        let nodes: Vec<Nodes> = fleet
            .names
            .iter()
            .map(|bytes| Nodes::of(&name(bytes)))
            .collect();
        let forward = Ring::try_new((0..).zip(&nodes)).expect("a fleet has members");
        let members: Vec<_> = (0..).zip(&nodes).collect();
        let backward = Ring::try_new(members.into_iter().rev()).expect("a fleet has members");
        for ring in [forward, backward] {
            for lookup in &fleet.lookups {
                let position = Coordinate(lookup.position.0);
                if let Some(key) = &lookup.key {
                    assert_eq!(hash::position(&key.0), position);
                }
                let owner = name(&lookup.owner);
                let name_of = |member: u32| nodes[member as usize].name();
                assert_eq!(name_of(ring.successor(position)), &owner, "{position}");
                assert_eq!(
                    ring.walk(position).next().map(name_of),
                    Some(&owner),
                    "{position}"
                );
                assert_eq!(
                    ring.exact(position).map(name_of),
                    lookup.exact.then_some(&owner),
                    "{position}"
                );
            }
        }
    }
}

#[test]
fn carriers_get_the_virtual_nodes_that_the_vectors_say() {
    let RingVectors { carriers, .. } = vectors(RING);
    assert!(carriers.len() >= 24);
    for carrier in carriers {
        let nodes = Nodes::of(&name(&carrier.name));
        let ring = Ring::try_new([(0, &nodes)]).expect("the ring has a member");
        let coordinate = ring.coordinate_for(0, &nodes, &carrier.string.0);
        assert_eq!(coordinate, Coordinate(carrier.coordinate.0));
        assert_eq!(coordinate, nodes.points()[carrier.number]);
        let number = hash::position(&carrier.string.0).0 % VIRTUAL_NODES as u64;
        assert_eq!(number, carrier.number as u64);
    }
}

#[test]
fn keys_have_the_ids_that_the_vectors_say() {
    let PinVectors { keys, .. } = vectors(PIN);
    assert!(keys.len() >= 4);
    for case in &keys {
        assert_eq!([secret(&case.key).id().0], *case.key_id.0);
    }
    let zero = Keys::try_new(&[]).expect("no secrets are allowed");
    let ids: Vec<u8> = zero.ids().map(|id| id.0).collect();
    assert_eq!(
        ids, keys[0].key_id.0,
        "the zero key where there is no secret"
    );
}

#[test]
fn minting_gives_the_characters_that_the_vectors_say() {
    let PinVectors { cases, .. } = vectors(PIN);
    assert!(cases.len() >= 137);
    for case in cases {
        let kind = kind(case.kind);
        let coordinate = Coordinate(case.coordinate.0);
        let binding = binding(&case.binding);
        let characters = keys([&case.key]).mint(kind, coordinate, binding.as_ref(), &case.string.0);
        assert_eq!(
            characters.escape_ascii().to_string(),
            case.characters,
            "{kind:?}"
        );
        assert_eq!(
            attach(kind, &case.string.0, &characters),
            case.client.0,
            "{kind:?}"
        );
        let raw = data_encoding::BASE32_NOPAD.decode(&characters.to_ascii_uppercase());
        assert_eq!(raw.as_deref(), Ok(case.raw.0.as_slice()), "{kind:?}");
    }
}

#[test]
fn good_pins_are_read_and_verify_under_their_own_key_and_among_all_keys() {
    let pins: PinVectors = vectors(PIN);
    let all = keys(pins.keys.iter().map(|case| &case.key));
    for case in pins.cases.iter().chain(&pins.also_reads) {
        assert_reads_good(&keys([&case.key]), case);
        assert_reads_good(&all, case);
    }
}

#[test]
fn a_pin_is_bound_to_whom_the_vectors_say_a_request_is_of() {
    let PinVectors { bound, .. } = vectors(PIN);
    assert!(bound.len() >= 16);
    let proxy = Client {
        address: [127, 0, 0, 1].into(),
        by_trusted: true,
    };
    for Bound { bind, header, case } in bound {
        let source: Source = bind.parse().unwrap();
        let mut headers = HeaderMap::new();
        let name: HeaderName = header.name.parse().unwrap();
        headers.insert(name, header.value.parse().unwrap());
        let of_request = source.binding(&headers, proxy);
        assert_eq!(of_request, binding(&case.binding), "{bind}");
        let (kind, at) = (kind(case.kind), Coordinate(case.coordinate.0));
        let keys = keys([&case.key]);
        let characters = keys.mint(kind, at, of_request.as_ref(), &case.string.0);
        assert_eq!(characters.escape_ascii().to_string(), case.characters);
        assert_reads_good(&keys, &case);
    }
}

#[test]
fn what_has_not_the_shape_is_no_pin() {
    let PinVectors { no_shape, .. } = vectors(PIN);
    assert!(no_shape.len() >= 123);
    for case in no_shape {
        let kind = kind(case.kind);
        assert_eq!(read(kind, &case.text.0), None, "{kind:?}: {}", case.why);
    }
}

#[test]
fn what_was_changed_bound_or_moved_is_a_bad_pin() {
    let pins: PinVectors = vectors(PIN);
    let all = keys(pins.keys.iter().map(|case| &case.key));
    assert!(pins.bad.len() >= 73);
    for case in &pins.bad {
        let kind = kind(case.kind);
        let Some(pin) = read(kind, &case.text.0) else {
            panic!("{kind:?}: {}: not read as a pin", case.why)
        };
        for keys in [&keys([&case.key]), &all] {
            let verdict = keys.verify(&pin, binding(&case.binding).as_ref());
            assert_eq!(verdict, Verdict::Forged, "{kind:?}: {}", case.why);
        }
    }
}

#[test]
fn a_pin_of_a_key_that_is_not_here_is_unknown_not_bad() {
    let PinVectors { unknown_key, .. } = vectors(PIN);
    assert!(unknown_key.len() >= 20);
    for case in unknown_key {
        let kind = kind(case.kind);
        let Some(pin) = read(kind, &case.text.0) else {
            panic!("{kind:?}: {}: not read as a pin", case.why)
        };
        assert_eq!([pin.key.0], *case.key_id.0, "{kind:?}: {}", case.why);
        let verdict = keys(&case.keys).verify(&pin, None);
        assert_eq!(verdict, Verdict::UnknownKey, "{kind:?}: {}", case.why);
    }
}
