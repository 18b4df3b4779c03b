//! A resolver of one pinring's own: host names that come and go, and a DNS server that says no, or nothing.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Answers "no such name" to whatever is asked, as long as it says anything.
const NXDOMAIN: [u8; 2] = [0x81, 0x83];

/// What a process that is started by [`Names::prefix`] resolves host names with. Needs root.
pub(crate) struct Names {
    folder: tempfile::TempDir,
    silent: Arc<AtomicBool>,
}

impl Names {
    /// With no names; `None`, with a message, where that is not allowed.
    pub(crate) fn try_new() -> Option<Self> {
        let may_mount = Command::new("unshare").args(["-m", "true"]).output();
        if !may_mount.is_ok_and(|run| run.status.success()) {
            eprintln!("skipped, for nothing can be mounted here");
            return None;
        }
        let free = |last| UdpSocket::bind((Ipv4Addr::new(127, 53, 0, last), 53)).ok();
        let Some(socket) = (1..=254).find_map(free) else {
            eprintln!("skipped, for there is no port for a DNS server here");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: String| std::fs::write(folder.path().join(file), text);
        let server = socket.local_addr().unwrap().ip();
        write("nsswitch.conf", "hosts: files dns\n".into()).unwrap();
        write("resolv.conf", format!("nameserver {server}\n")).unwrap();
        write("hosts", String::new()).unwrap();
        let silent = Arc::new(AtomicBool::new(false));
        let is_silent = Arc::clone(&silent);
        std::thread::spawn(move || serve(&socket, &is_silent)); // until the tests end
        Some(Self { folder, silent })
    }

    /// What starts a program with it.
    pub(crate) fn prefix(&self) -> [String; 6] {
        let mount = |file: &str| {
            let own = self.folder.path().join(file);
            format!("mount --bind {} /etc/{file} && ", own.display())
        };
        let mounts = ["nsswitch.conf", "resolv.conf", "hosts"]
            .map(mount)
            .concat();
        let script = format!("{mounts}exec \"$@\"");
        ["unshare", "-m", "sh", "-ec", &script, "sh"].map(str::to_owned)
    }

    /// From now on, `name` has this address.
    pub(crate) fn put(&self, name: &str, ip: IpAddr) {
        std::fs::write(self.hosts(), format!("{ip} {name}\n")).unwrap();
    }

    /// From now on there is no name, and the DNS server says so.
    pub(crate) fn take_away(&self) {
        self.silent.store(false, Ordering::Relaxed);
        std::fs::write(self.hosts(), "").unwrap();
    }

    /// From now on nobody answers.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
        std::fs::write(self.hosts(), "").unwrap();
    }

    fn hosts(&self) -> impl AsRef<Path> {
        self.folder.path().join("hosts")
    }
}

fn serve(socket: &UdpSocket, silent: &AtomicBool) {
    let mut bytes = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut bytes) {
        if length > 4 && !silent.load(Ordering::Relaxed) {
            bytes[2..4].copy_from_slice(&NXDOMAIN);
            let _gone = socket.send_to(&bytes[..length], client);
        }
    }
}
