//! A simulated machine with the real pinring on it: its file, its secrets, its process.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use pinring::{
    app,
    config::source::Source,
    net::simulated::{Machine, Process},
    reload::command::{Command, Commander},
    shutdown,
};
use tokio::sync::mpsc;

use super::{
    drains::Drains,
    history::{List, Run, Taken},
    settings::{CONNECT, DRAIN, OPEN_HEAD, OnLoss, RESPONSE_HEAD, Settings},
    world::{self, Shared},
};

/// After a signal, the file has been read without doubt.
const READ: Duration = Duration::from_millis(50);

pub struct Proxy {
    pub index: usize,
    pub machine: Machine,
    world: Shared,
    file: PathBuf,
    /// What the file says, if it can be read.
    list: RefCell<Rc<List>>,
    garbled: Cell<bool>,
    stopping: Cell<bool>,
    process: RefCell<Option<(Process, mpsc::Sender<shutdown::Request>)>>,
    /// What stands for its admin socket.
    commander: Rc<RefCell<Option<Commander>>>,
}

impl Proxy {
    /// A proxy whose file, in `folder`, holds `list`. It is not running.
    pub fn new(world: &Shared, index: usize, folder: &Path, list: &Rc<List>) -> Self {
        let proxy = Self {
            index,
            machine: world::proxy(index, world.settings.proxies[index]),
            world: Rc::clone(world),
            file: folder.join(format!("p{index}.toml")),
            list: RefCell::new(Rc::clone(list)),
            garbled: Cell::new(false),
            stopping: Cell::new(false),
            process: RefCell::new(None),
            commander: Rc::default(),
        };
        fs::write(&proxy.file, proxy.text(list)).unwrap();
        proxy
    }

    pub fn is_up(&self) -> bool {
        let process = self.process.borrow();
        process
            .as_ref()
            .is_some_and(|(process, _)| !process.has_ended())
    }

    /// Starts it, unless it runs already or could not.
    pub fn start(&self) {
        if self.is_up() {
            return;
        }
        let (requests, signals) = mpsc::channel(4);
        let source = Source {
            file: Some(self.file.clone()),
            ..Source::default()
        };
        let Ok(config) = source.load() else {
            return; // it ends at once with what is wrong
        };
        let (world, index) = (Rc::clone(&self.world), self.index);
        self.commander.take();
        let admin = Rc::clone(&self.commander);
        let process = Process::start(self.machine, async move {
            let bound = app::Bound::new(source, config, false).unwrap();
            let (commander, served) = bound.run_here(signals).unwrap();
            admin.replace(Some(commander));
            served.await.unwrap();
            world.note(format_args!("p{index} ends"));
            ended(&world, index, |_| {});
        });
        let now = self.world.now();
        self.world.note(format_args!("p{} starts", self.index));
        self.stopping.set(false);
        self.process.replace(Some((process, requests)));
        self.world.history_mut().runs[self.index].push(Run {
            from: now,
            until: None,
            stopping: None,
            killed: false,
            reloaded: now,
            lists: vec![Taken {
                list: Rc::clone(&self.list.borrow()),
                may: now,
                surely: Some(now),
            }],
            pins: [].into(),
            drains: Drains::default(),
        });
    }

    pub fn kill(&self) {
        if let Some((process, _)) = self.process.take()
            && !process.has_ended()
        {
            self.world.note(format_args!("p{} is killed", self.index));
            ended(&self.world, self.index, |run| run.killed = true);
            process.kill();
        }
    }

    /// Asks it to end as SIGTERM does; it goes on with what is under way. The balancer notices.
    pub fn stop(&self) {
        if let Some((_, requests)) = &*self.process.borrow() {
            if self.stopping.replace(true) || requests.try_send(shutdown::Request::Stop).is_err() {
                return; // a second one would end it at once
            }
            self.world.note(format_args!("p{} is to end", self.index));
            let now = self.world.now();
            if let Some(run) = self.running().as_deref_mut() {
                run.stopping = Some(now);
            }
        }
    }

    /// Whether it takes new connections.
    pub fn is_ready(&self) -> bool {
        self.is_up() && !self.stopping.get()
    }

    /// Puts a list into the file. Nobody is told.
    pub fn write(&self, list: &Rc<List>) {
        fs::write(&self.file, self.text(list)).unwrap();
        self.garbled.set(false);
        self.list.replace(Rc::clone(list));
        let now = self.world.now();
        self.world
            .note(format_args!("p{} has {list:?}", self.index));
        if let Some(run) = self.running().as_deref_mut() {
            run.drains.follow_file(list, now, None);
            run.lists.push(Taken {
                list: Rc::clone(list),
                may: now,
                surely: None,
            });
        }
    }

    /// Spoils the file, as somebody's slip does.
    pub fn garble(&self) {
        self.world.note(format_args!("p{} has garbage", self.index));
        let text = self.text(&self.list.borrow()) + "nonsense = [";
        fs::write(&self.file, text).unwrap();
        self.garbled.set(true);
    }

    /// Has the file read again.
    pub fn reload(&self) {
        if let Some((_, requests)) = &*self.process.borrow() {
            let _ended = requests.try_send(shutdown::Request::Reload);
        }
        let now = self.world.now();
        if let Some(run) = self.running().as_deref_mut()
            && !self.garbled.get()
        {
            if run.stopping.is_none() {
                let list = self.list.borrow();
                run.drains.follow_file(&list, now, Some(now + READ));
            }
            run.reloaded = now + READ;
            if let Some(taken) = run.lists.last_mut() {
                taken.surely.get_or_insert(now + READ);
            }
        }
    }

    /// Drains a backend as `pinring drain` does.
    pub async fn drain(&self, backend: usize, within: Option<Duration>) {
        let Some(commander) = self.commander.borrow().clone() else {
            return;
        };
        let command = |answer| Command::Drain {
            backend: format!("b{backend}"),
            within,
            answer,
        };
        let Ok(Ok(_)) = commander.ask(command).await else {
            return;
        };
        let (index, now) = (self.index, self.world.now());
        self.world
            .note(format_args!("p{index} drains b{backend} within {within:?}"));
        self.world.count("drained by an operator");
        if let Some(run) = self.running().as_deref_mut() {
            let pace = self.machine.pace;
            let last = run.lists.last().and_then(|taken| taken.surely);
            let unread = run.reloaded > now || last.is_none();
            run.drains.begin(backend, now, within, pace, unread);
        }
    }

    /// Takes that back as `pinring undrain` does.
    pub async fn undrain(&self, backend: usize) {
        let Some(commander) = self.commander.borrow().clone() else {
            return;
        };
        let command = |answer| Command::Undrain {
            backend: format!("b{backend}"),
            answer,
        };
        let Ok(Ok(_)) = commander.ask(command).await else {
            return;
        };
        let (index, now) = (self.index, self.world.now());
        self.world
            .note(format_args!("p{index} undrains b{backend}"));
        self.world.count("undrained by an operator");
        if let Some(run) = self.running().as_deref_mut() {
            run.drains.undo(backend, now);
        }
    }

    fn running(&self) -> Option<std::cell::RefMut<'_, Run>> {
        let history = self.world.history_mut();
        std::cell::RefMut::filter_map(history, |history| {
            let last = history.runs[self.index].last_mut();
            last.filter(|run| run.until.is_none())
        })
        .ok()
    }

    fn text(&self, list: &List) -> String {
        let mut text = head(&self.world.settings, self.machine);
        let keys = list.keys.iter().map(|key| format!("\"file:k{key}\""));
        let keys: Vec<String> = keys.collect();
        writeln!(text, "secrets = [{}]", keys.join(", ")).unwrap();
        // Each proxy has them in an order of its own, which must not matter.
        let mut backends = list.backends.clone();
        let middle = self.index % backends.len();
        backends.rotate_left(middle);
        for listed in backends {
            let index = listed.backend;
            let address = world::address(world::backend(index));
            let (weight, draining) = (listed.weight, listed.draining);
            writeln!(
                text,
                "[[backends]]\nname = \"b{index}\"\nurl = \"http://{address}\"\n\
                 weight = {weight}\ndraining = {draining}",
            )
            .unwrap();
        }
        text
    }
}

fn ended(world: &Shared, index: usize, note: impl FnOnce(&mut Run)) {
    let now = world.now();
    if let Some(run) = world.history_mut().runs[index].last_mut() {
        run.until = Some(now);
        note(run);
    }
}

fn head(settings: &Settings, machine: Machine) -> String {
    let on_loss = match settings.on_loss {
        OnLoss::NotFound => "not-found",
        OnLoss::Successor => "successor",
        OnLoss::Reinitialize => "reinitialize",
    };
    let millis = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
    format!(
        "[server]\nlisten = \"{}\"\nadmin = \"\"\nthreads = 1\nwatch = false\n\
         [timeouts]\nconnect = {}\nresponse_head = {}\nopen_head = {}\nstream_comment = \"1s\"\n\
         upstream_keep_alive = \"1s\"\ndrain = {}\ntcp_user_timeout = \"2s\"\n\
         [log]\naccess = true\n\
         [affinity]\non_loss = \"{on_loss}\"\nloss_after = {}\nunreachable_after = {}\ndeparted = {}\n\
         unknown_grace = {}\njoin_delay = {}\nsession_idle = \"5s\"\n",
        world::address(machine),
        millis(CONNECT),
        millis(RESPONSE_HEAD),
        millis(OPEN_HEAD),
        millis(DRAIN),
        millis(settings.loss_after),
        millis(settings.unreachable_after),
        millis(settings.departed),
        millis(settings.unknown_grace),
        millis(settings.join_delay),
    )
}

/// The secrets' files, beside the configurations.
pub fn write_keys(folder: &Path, count: usize) {
    for key in 0..count {
        fs::write(folder.join(format!("k{key}")), secret(key)).unwrap();
    }
}

pub fn secret(key: usize) -> Vec<u8> {
    format!("the simulation's secret number {key:04}").into_bytes()
}
