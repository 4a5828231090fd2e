//! The cluster as it is known: which broker leads which partition, and connections that wait for their next use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Connection, Connector, Refused};
use super::records::Producer;
use super::wire::{self, Metadata};

/// How long what is known of a topic holds: partitions that are added are used after that time at the latest.
const FRESH: Duration = Duration::from_secs(300);

/// Unused connections are closed after this time. Brokers close them after ten minutes, and a batch would meet the closed door.
const IDLE: Duration = Duration::from_secs(60);

/// The most topics that are remembered; beyond, all are asked for again.
const MAX_TOPICS: usize = 1000;

/// What a broker may want us to wait at the most. Its own limit is a second (`quota.window.size.seconds`).
const MAX_THROTTLE: Duration = Duration::from_secs(30);

/// `LEADER_NOT_AVAILABLE`.
const NO_LEADER: i16 = 5;
/// `UNKNOWN_TOPIC_OR_PARTITION`.
const NO_TOPIC: i16 = 3;
/// `COORDINATOR_LOAD_IN_PROGRESS`.
const LOADING: i16 = 14;

/// A broker's host and port.
pub type Address = (String, u16);

/// The brokers and the way to them.
pub struct Cluster {
    connector: Connector,
    bootstrap: Vec<Address>,
    /// Whether brokers may make a topic that is not there.
    may_create: bool,
    known: Mutex<Known>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    brokers: HashMap<i32, Address>,
    topics: HashMap<String, Topic>,
    idle: HashMap<Address, Vec<Connection>>,
    throttled: HashMap<Address, Instant>,
}

struct Topic {
    leaders: Arc<[i32]>,
    asked_at: Instant,
}

impl Cluster {
    /// The cluster that one of these brokers is of.
    pub fn new(connector: Connector, bootstrap: Vec<Address>, may_create: bool) -> Cluster {
        Cluster { connector, bootstrap, may_create, known: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leaders of a topic's partitions: as they are known, or asked for.
    pub async fn leaders(&self, topic: &str) -> Result<Arc<[i32]>, Refused> {
        let known = self.known().topics.get(topic).filter(|topic| topic.asked_at.elapsed() < FRESH).map(|topic| topic.leaders.clone());
        match known {
            Some(leaders) => Ok(leaders),
            None => self.ask(topic).await,
        }
    }

    /// To be called when a broker says that it does not lead what it was thought to: the next one asks again.
    pub fn forget(&self, topic: &str) {
        self.known().topics.remove(topic);
    }

    async fn ask(&self, topic: &str) -> Result<Arc<[i32]>, Refused> {
        let (address, mut connection) = self.any().await?;
        let (answer, version) = connection.call(wire::METADATA, &[&wire::metadata_request(&[topic], self.may_create)]).await?;
        let Metadata { brokers, topics } = wire::metadata(&answer, version)?;
        self.give_back(address, connection);
        let mut known = self.known();
        known.brokers = brokers.into_iter().map(|(number, host, port)| (number, (host, port))).collect();
        let (_, error, leaders) = topics.into_iter().find(|(name, ..)| name == topic).ok_or(Refused::Code(NO_TOPIC))?;
        if error != 0 {
            return Err(Refused::Code(error));
        }
        if leaders.is_empty() {
            return Err(Refused::Code(NO_LEADER));
        }
        if known.topics.len() >= MAX_TOPICS {
            known.topics.clear();
        }
        let leaders: Arc<[i32]> = leaders.into();
        known.topics.insert(topic.to_owned(), Topic { leaders: leaders.clone(), asked_at: Instant::now() });
        Ok(leaders)
    }

    /// Where a broker is.
    pub fn address(&self, broker: i32) -> Result<Address, Refused> {
        self.known().brokers.get(&broker).cloned().ok_or(Refused::Code(NO_LEADER))
    }

    /// A connection to any broker: one that waits, or a new one to one of those that are known or given.
    pub async fn any(&self) -> Result<(Address, Connection), Refused> {
        let addresses = {
            let mut known = self.known();
            let idle: Vec<Address> = known.idle.keys().cloned().collect();
            if let Some(found) = idle.into_iter().find_map(|address| Some((address.clone(), known.take(&address)?))) {
                return Ok(found);
            }
            let mut addresses = self.bootstrap.clone();
            addresses.extend(known.brokers.values().filter(|address| !self.bootstrap.contains(address)).cloned());
            addresses
        };
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = Refused::Unanswered("no broker is known".to_owned());
        for index in 0..addresses.len() {
            let (host, port) = &addresses[(first + index) % addresses.len()];
            match self.connector.connect(host, *port).await {
                Ok(connection) => return Ok(((host.clone(), *port), connection)),
                // Another broker would not like the credentials better.
                Err(refused @ Refused::Code(_)) => return Err(refused),
                Err(refused) => last = refused,
            }
        }
        Err(last)
    }

    /// A connection to this broker.
    pub async fn to(&self, address: &Address) -> Result<Connection, Refused> {
        let waiting = self.known().take(address);
        match waiting {
            Some(connection) => Ok(connection),
            None => self.connector.connect(&address.0, address.1).await,
        }
    }

    /// Keeps a connection, on which nothing is under way, for its next use.
    pub fn give_back(&self, address: Address, connection: Connection) {
        self.known().idle.entry(address).or_default().push(connection);
    }

    /// Closes what waits for a broker: one of its connections turned out to be dead, so the others are too.
    pub fn close(&self, address: &Address) {
        self.known().idle.remove(address);
    }

    /// What the broker wants us to wait.
    pub fn throttle(&self, address: &Address, millis: i32) {
        let wait = Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(MAX_THROTTLE);
        if !wait.is_zero() {
            self.known().throttled.insert(address.clone(), Instant::now() + wait);
        }
    }

    /// Waits as long as the broker wants.
    pub async fn wait(&self, address: &Address) {
        let until = self.known().throttled.get(address).copied();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
            self.known().throttled.retain(|_, until| *until > Instant::now());
        }
    }

    /// A new identity as a producer.
    pub async fn new_producer(&self) -> Result<Producer, Refused> {
        // A broker that has just started has to ask for some itself.
        for _ in 0..10 {
            match self.ask_for_producer().await {
                Err(Refused::Code(LOADING)) => tokio::time::sleep(Duration::from_millis(100)).await,
                other => return other,
            }
        }
        Err(Refused::Code(LOADING))
    }

    async fn ask_for_producer(&self) -> Result<Producer, Refused> {
        let (address, mut connection) = self.any().await?;
        let (answer, _) = connection.call(wire::INIT_PRODUCER_ID, &[&wire::init_producer_id_request()]).await?;
        let (error, id, epoch) = wire::init_producer_id(&answer)?;
        self.give_back(address, connection);
        if error == 0 { Ok(Producer { id, epoch }) } else { Err(Refused::Code(error)) }
    }
}

impl Known {
    /// The connection that was used last, of those that still may be. The others go.
    fn take(&mut self, address: &Address) -> Option<Connection> {
        let now = Instant::now();
        let idle = self.idle.get_mut(address)?;
        idle.retain(|connection| now.duration_since(connection.used_at) < IDLE && connection.expires_at.is_none_or(|at| now < at));
        let taken = idle.pop();
        if idle.is_empty() {
            self.idle.remove(address);
        }
        taken
    }
}
