//! A faulty front for protocols that are not HTTP: hands bytes on between clients and a server, and sometimes cuts the connection in
//! the midst of a request or an answer, keeps an answer, or stalls.
//!
//! Whatever the server has got, it has done: an answer that the cutter kept is of something that was done.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::chance::Chance;

/// What goes wrong, each with how often in a thousand pieces of up to 64 KiB.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Half of a piece of a request arrives, then the connection is closed.
    pub request: u32,
    /// The first bytes of an answer arrive, then the connection is closed.
    pub answer: u32,
    /// The answer is kept, and the connection closed.
    pub lost: u32,
    /// The answer comes after this time.
    pub stall: (u32, Duration),
    /// For the chance.
    pub seed: u64,
}

/// What the cutter counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Connections that came.
    pub connections: u64,
    /// Connections that were cut in the midst of a request.
    pub requests_cut: u64,
    /// Connections that were closed with an answer not given, or not all of it.
    pub answers_lost: u64,
    /// Answers that came late.
    pub stalls: u64,
}

/// The running front. Takes no more connections when dropped.
pub struct Cutter {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: Mutex<String>,
    cuts: Mutex<(Cuts, Chance)>,
    seen: Mutex<Seen>,
    ended: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cutter {
    /// A front on a free port, before the server that [`Cutter::set_server`] names; it does nothing wrong yet.
    pub fn start() -> io::Result<Cutter> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: Mutex::default(),
            cuts: Mutex::new((Cuts::default(), Chance::new(0))),
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let served = shared.clone();
        std::thread::Builder::new().name("cutter".into()).spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if served.ended.load(Ordering::Relaxed) {
                    break;
                }
                lock(&served.seen).connections += 1;
                // A server that was killed is a connection that is closed.
                let _ = served.clone().serve(client);
            }
        })?;
        Ok(Cutter { address, shared })
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The server's `host:port`.
    pub fn set_server(&self, server: &str) {
        server.clone_into(&mut lock(&self.shared.server));
    }

    /// Makes it misbehave from now on.
    pub fn set_cuts(&self, cuts: Cuts) {
        let chance = Chance::new(cuts.seed);
        *lock(&self.shared.cuts) = (cuts, chance);
    }

    /// What it counted so far.
    pub fn seen(&self) -> Seen {
        *lock(&self.shared.seen)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(self: Arc<Shared>, client: TcpStream) -> io::Result<()> {
        let address = lock(&self.server).clone();
        let server = TcpStream::connect(address)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let (from, to, shared) = (client.try_clone()?, server.try_clone()?, self.clone());
        std::thread::spawn(move || shared.hand_on(from, to, Shared::spoil_request));
        std::thread::spawn(move || self.hand_on(server, client, Shared::spoil_answer));
        Ok(())
    }

    fn hand_on(&self, mut from: TcpStream, mut to: TcpStream, spoil: fn(&Shared, usize) -> Option<usize>) {
        let mut piece = vec![0; 64 << 10];
        while let Ok(len @ 1..) = from.read(&mut piece) {
            let spoiled = spoil(self, len);
            if to.write_all(&piece[..spoiled.unwrap_or(len)]).is_err() || spoiled.is_some() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// How much of a piece of a request arrives before the end; none where all goes well.
    fn spoil_request(&self, len: usize) -> Option<usize> {
        let (cuts, chance) = &mut *lock(&self.cuts);
        if !chance.per_mille(cuts.request) {
            return None;
        }
        lock(&self.seen).requests_cut += 1;
        Some(len / 2)
    }

    /// The same of an answer.
    fn spoil_answer(&self, len: usize) -> Option<usize> {
        let (spoiled, stall) = {
            let (cuts, chance) = &mut *lock(&self.cuts);
            let is_lost = chance.per_mille(cuts.lost);
            let is_cut = chance.per_mille(cuts.answer);
            let spoiled = if is_lost { Some(0) } else { is_cut.then_some(len.min(6)) };
            (spoiled, chance.per_mille(cuts.stall.0).then_some(cuts.stall.1))
        };
        lock(&self.seen).answers_lost += u64::from(spoiled.is_some());
        if let Some(stall) = stall {
            lock(&self.seen).stalls += 1;
            std::thread::sleep(stall);
        }
        spoiled
    }
}
