use proptest::prelude::*;

use super::*;

fn secret(byte: u8) -> Secret {
    Secret::try_new(&[byte; 32]).unwrap()
}

fn pinned(
    keys: &Keys,
    kind: Kind,
    coordinate: u64,
    binding: Option<&Binding>,
    string: &[u8],
) -> Vec<u8> {
    let mut text = string.to_vec();
    text.push(b'-');
    text.extend_from_slice(&keys.mint(kind, Coordinate(coordinate), binding, string));
    text
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::Session,
        Kind::Endpoint,
        Kind::RequestState,
        Kind::Task,
    ])
}

proptest! {
    #[test]
    fn what_was_minted_is_read_again(
        kind in kinds(),
        coordinate in any::<u64>(),
        binding in any::<Option<[u8; 32]>>(),
        string in prop::collection::vec(any::<u8>(), 1..80),
    ) {
        let keys = Keys::try_new(&[secret(1), secret(2)]).unwrap();
        let text = pinned(&keys, kind, coordinate, binding.as_ref(), &string);
        let pin = Pin::parse(kind, &text).unwrap();
        prop_assert_eq!(pin.string, &string[..]);
        prop_assert_eq!(pin.coordinate, Coordinate(coordinate));
        prop_assert_eq!(keys.verify(&pin, binding.as_ref()), Verdict::Good);
        prop_assert_eq!(keys.verify(&pin, binding.as_ref()), Verdict::Good, "remembered");
    }

    #[test]
    fn any_bytes_are_read_without_panic(kind in kinds(), text in prop::collection::vec(any::<u8>(), 0..120)) {
        if let Some(pin) = Pin::parse(kind, &text) {
            prop_assert_ne!(Keys::default().verify(&pin, None), Verdict::Good);
        }
    }

    #[test]
    fn one_changed_character_is_no_good_pin(at in 0_usize..69, to in "[a-z2-7]") {
        let keys = Keys::default();
        let mut text = pinned(&keys, Kind::Session, 7, None, b"0123456789abcdef0123456789abcdef0123");
        prop_assume!(text[at] != to.as_bytes()[0]);
        let genuine = Pin::parse(Kind::Session, &text).unwrap();
        prop_assert_eq!(keys.verify(&genuine, None), Verdict::Good);
        text[at] = to.as_bytes()[0];
        if let Some(pin) = Pin::parse(Kind::Session, &text) {
            prop_assert_ne!(keys.verify(&pin, None), Verdict::Good);
        }
    }
}

#[test]
fn a_pin_of_another_kind_or_version_is_no_pin() {
    let text = pinned(&Keys::default(), Kind::Task, 7, None, b"id");
    assert!(Pin::parse(Kind::Task, &text).is_some());
    assert_eq!(Pin::parse(Kind::Session, &text), None);
}

#[test]
fn the_string_before_a_pin_is_not_empty_and_the_alphabet_is_lower_case() {
    let text = pinned(&Keys::default(), Kind::Session, 7, None, b"a");
    assert!(Pin::parse(Kind::Session, &text).is_some());
    assert_eq!(Pin::parse(Kind::Session, &text[1..]), None);
    assert_eq!(Pin::parse(Kind::Session, &text.to_ascii_uppercase()), None);
}

#[test]
fn only_the_last_pin_is_taken_off() {
    let inner = pinned(&Keys::default(), Kind::Session, 7, None, b"a");
    let outer = pinned(&Keys::default(), Kind::Session, 8, None, &inner);
    assert_eq!(Pin::parse(Kind::Session, &outer).unwrap().string, inner);
}

#[test]
fn the_first_key_signs_and_all_verify() {
    let (old, new) = (secret(1), secret(2));
    let text = pinned(
        &Keys::try_new(std::slice::from_ref(&old)).unwrap(),
        Kind::Session,
        7,
        None,
        b"a",
    );
    let pin = Pin::parse(Kind::Session, &text).unwrap();
    let both = Keys::try_new(&[new.clone(), old]).unwrap();
    assert_eq!(both.verify(&pin, None), Verdict::Good);
    assert_eq!(
        Keys::try_new(&[new]).unwrap().verify(&pin, None),
        Verdict::UnknownKey
    );
}

#[test]
fn a_binding_to_somebody_else_is_forged() {
    let keys = Keys::default();
    let text = pinned(&keys, Kind::Session, 7, Some(&[1; 32]), b"a");
    let pin = Pin::parse(Kind::Session, &text).unwrap();
    assert_eq!(keys.verify(&pin, Some(&[1; 32])), Verdict::Good);
    assert_eq!(keys.verify(&pin, Some(&[2; 32])), Verdict::Forged);
    assert_eq!(keys.verify(&pin, None), Verdict::Forged);
}

/// Another secret with the id of `first`.
fn twin_of(first: &Secret) -> Secret {
    let others = (2_u64..).map(|number| {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Secret::try_new(&bytes).unwrap()
    });
    others
        .into_iter()
        .find(|twin| twin.id() == first.id())
        .unwrap()
}

#[test]
fn what_was_good_under_a_key_is_forged_under_another_of_its_id() {
    let (first, twin) = (secret(1), twin_of(&secret(1)));
    let keys = Keys::try_new(&[first]).unwrap();
    let text = pinned(&keys, Kind::Session, 7, None, b"a");
    let pin = Pin::parse(Kind::Session, &text).unwrap();
    assert_eq!(keys.verify(&pin, None), Verdict::Good);
    let later = Keys::try_new(&[twin]).unwrap();
    assert_eq!(later.verify(&pin, None), Verdict::Forged);
}

#[test]
fn two_keys_with_one_id_are_refused() {
    let first = secret(1);
    let twin = twin_of(&first);
    let fault = Keys::try_new(&[first.clone(), secret(3), twin]).unwrap_err();
    assert_eq!((fault.first, fault.second, fault.id), (1, 3, first.id()));
}

#[test]
fn a_weak_secret_is_refused() {
    assert_eq!(Secret::try_new(&[1; 31]), Err(WeakSecret::Short(31)));
    assert_eq!(Secret::try_new(&[0; 40]), Err(WeakSecret::Zero));
}

#[test]
fn no_secret_is_ever_printed() {
    let printed = format!(
        "{:?} {:?}",
        secret(0x41),
        Keys::try_new(&[secret(0x41)]).unwrap()
    );
    assert!(
        !printed.contains("AAAA") && !printed.contains("65, 65"),
        "{printed}"
    );
}
