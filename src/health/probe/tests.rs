use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, TcpListener},
};

use super::*;
use crate::health::Statuses;

const LIMIT: Duration = Duration::from_millis(200);

fn suspect(port: u16) -> Suspect {
    Suspect {
        id: BackendId(1),
        endpoint: format!("http://h:{port}")
            .parse::<crate::backend::Url>()
            .unwrap()
            .endpoint,
        path: None,
        expected: Statuses::default(),
        limit: LIMIT,
    }
}

#[test]
fn a_fault_of_this_side_says_nothing_about_the_backend() {
    const EMFILE: i32 = 24;
    const EHOSTUNREACH: i32 = 113;
    let failed = |code| ConnectError::Failed {
        address: "192.0.2.1:80".parse().unwrap(),
        source: io::Error::from_raw_os_error(code).into(),
    };
    assert_eq!(seen_in(&failed(EMFILE)), None);
    assert_eq!(
        seen_in(&failed(EHOSTUNREACH)),
        Some(Observation::Unreachable)
    );
    let unresolved = ConnectError::Unresolved {
        host: "h".into(),
        source: io::Error::other("no answer").into(),
    };
    assert_eq!(seen_in(&unresolved), Some(Observation::Unresolved));
}

#[cfg(not(feature = "simulation"))] // where no names are
#[tokio::test]
async fn a_resolver_without_an_answer_does_not_make_a_backend_unreachable() {
    let names = Names::new(|_| pending());
    assert_eq!(
        look(suspect(80), names.clone()).await,
        Some(Observation::Unresolved)
    );
    let names = Names::new(|_| async { Err(io::Error::other("NXDOMAIN")) });
    assert_eq!(
        look(suspect(80), names).await,
        Some(Observation::Unresolved)
    );
}

#[cfg(not(feature = "simulation"))]
#[tokio::test]
async fn one_whose_name_is_gone_is_looked_at_where_it_was() {
    for silent in [false, true] {
        let first = std::sync::atomic::AtomicBool::new(true);
        let names = Names::new(move |_| {
            let first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            async move {
                match (first, silent) {
                    (true, _) => Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
                    (false, true) => pending().await,
                    (false, false) => Err(io::Error::other("NXDOMAIN")),
                }
            }
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let suspect = suspect(listener.local_addr().unwrap().port());
        for _ in 0..2 {
            let seen = look(suspect.clone(), names.clone()).await;
            assert_eq!(seen, Some(Observation::Probed));
        }
        drop(listener);
        let seen = look(suspect, names).await;
        assert_eq!(seen, Some(Observation::Refused));
    }
}
