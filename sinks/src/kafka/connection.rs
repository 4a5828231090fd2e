//! A connection to a broker: opened, shown who we are, then one request after the other.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use skidder_pipeline::sink::TransportError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::sasl::{Mechanism, Sasl, Scram, plain};
use super::tls::Tls;
use super::wire::{self, Api, Authenticated, Malformed};

/// What of an answer is read: a larger one is no answer. That to a batch has some hundred bytes, that about a topic some ten a
/// partition and replica.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// How long to wait for a connection, and for each step of its beginning: a broker that is gone is left for the next one soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a conversation by TCP or TLS takes.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The way to brokers.
pub struct Connector {
    /// TLS; none without.
    pub tls: Option<Tls>,
    /// Credentials; none without.
    pub(crate) sasl: Option<Sasl>,
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There was no answer, or none that can be read: whether it was done is unknown.
    Unanswered(String),
    /// Kafka's error.
    Code(i16),
}

impl From<Malformed> for Refused {
    fn from(error: Malformed) -> Refused {
        Refused::Unanswered(error.to_string())
    }
}

impl From<TransportError> for Refused {
    fn from(error: TransportError) -> Refused {
        Refused::Unanswered(error.0)
    }
}

fn broken(error: &io::Error) -> Refused {
    Refused::Unanswered(format!("the connection broke off: {error}"))
}

/// A connection. What was asked on it and not answered to the end makes it useless: it is dropped then, and with it whatever comes
/// too late.
pub struct Connection {
    stream: Box<dyn Stream>,
    versions: Vec<wire::Versions>,
    number: i32,
    /// Nothing was asked yet but the versions, and we did not show who we are: where the broker wants that, it closes now.
    unknown: bool,
    /// When the broker wants to be shown again who this is.
    pub expires_at: Option<Instant>,
    /// When it was used last.
    pub used_at: Instant,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connection to `host`, on which requests can be made.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Connection, Refused> {
        let late = |what: &str| Refused::Unanswered(format!("no connection: {what} took too long"));
        let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await.map_err(|_| late("reaching the broker"))?;
        let tcp = tcp.map_err(|error| Refused::Unanswered(format!("no connection: {error}")))?;
        tcp.set_nodelay(true).map_err(|error| broken(&error))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| {
                    Refused::Unanswered("no connection: the broker's name is none that a certificate can be for".to_owned())
                })?;
                let connecting = TlsConnector::from(tls.current()).connect(name, tcp);
                let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| late("TLS"))?;
                Box::new(stream.map_err(|error| Refused::Unanswered(format!("no connection by TLS: {error}")))?)
            }
        };
        let mut connection =
            Connection { stream, versions: Vec::new(), number: 0, unknown: false, expires_at: None, used_at: Instant::now() };
        timeout(CONNECT_TIMEOUT, connection.begin(self.sasl.as_ref())).await.map_err(|_| late("saying who this is"))??;
        Ok(connection)
    }
}

impl Connection {
    async fn begin(&mut self, sasl: Option<&Sasl>) -> Result<(), Refused> {
        let answer = self.exchange(wire::API_VERSIONS, 0, &[]).await.map_err(|refused| match refused {
            // A broker that expects TLS closes what does not begin so.
            Refused::Unanswered(why) => Refused::Unanswered(format!("{why} (is this listener one for TLS, or no Kafka?)")),
            refused => refused,
        })?;
        let (error, versions) = wire::api_versions(&answer)?;
        if error != 0 {
            return Err(Refused::Code(error));
        }
        self.versions = versions;
        match sasl {
            Some(sasl) => self.authenticate(sasl).await,
            None => {
                self.unknown = true;
                Ok(())
            }
        }
    }

    async fn authenticate(&mut self, sasl: &Sasl) -> Result<(), Refused> {
        let (answer, _) = self.call(wire::SASL_HANDSHAKE, &[&wire::sasl_handshake_request(sasl.mechanism.name())]).await?;
        let (error, _) = wire::sasl_handshake(&answer)?;
        if error != 0 {
            return Err(Refused::Code(error));
        }
        let password = sasl.password.secret()?;
        let last = match sasl.mechanism {
            Mechanism::Plain => self.say(&plain(&sasl.user, password.reveal())).await?,
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
                let wrong = |error: super::sasl::ScramError| Refused::Unanswered(error.to_string());
                let scram = Scram::new(sasl.mechanism, &sasl.user).map_err(wrong)?;
                let challenge = self.say(&scram.first()).await?;
                let answer = scram.answer(&challenge.message, password.reveal()).map_err(wrong)?;
                let last = self.say(&answer.message).await?;
                answer.verify(&last.message).map_err(wrong)?;
                last
            }
        };
        // Left a little before, so that no batch is under way when the broker closes.
        let lifetime = Duration::from_millis(u64::try_from(last.lifetime_ms).unwrap_or(0));
        self.expires_at = (!lifetime.is_zero()).then(|| Instant::now() + lifetime.mul_f64(0.8));
        Ok(())
    }

    async fn say(&mut self, message: &[u8]) -> Result<Authenticated, Refused> {
        let (answer, version) = self.call(wire::SASL_AUTHENTICATE, &[&wire::sasl_authenticate_request(message)]).await?;
        let answer = wire::sasl_authenticate(&answer, version)?;
        if answer.error == 0 { Ok(answer) } else { Err(Refused::Code(answer.error)) }
    }

    /// The newest version of `api` that both sides speak.
    pub fn version(&self, api: Api) -> Option<i16> {
        let (_, oldest, newest) = self.versions.iter().find(|(key, ..)| *key == api.key)?;
        let version = api.newest.min(*newest);
        (version >= api.oldest.max(*oldest)).then_some(version)
    }

    /// Makes a request whose body is these pieces; gives the answer's body and its version.
    pub async fn call(&mut self, api: Api, body: &[&[u8]]) -> Result<(Bytes, i16), Refused> {
        /// `UNSUPPORTED_VERSION`.
        const UNSUPPORTED: Refused = Refused::Code(35);
        let version = self.version(api).ok_or(UNSUPPORTED)?;
        let unknown = std::mem::take(&mut self.unknown);
        let answer = self.exchange(api, version, body).await.map_err(|refused| match refused {
            Refused::Unanswered(why) if unknown => Refused::Unanswered(format!("{why} (does this listener want `sasl`?)")),
            refused => refused,
        });
        Ok((answer?, version))
    }

    async fn exchange(&mut self, api: Api, version: i16, body: &[&[u8]]) -> Result<Bytes, Refused> {
        self.number = self.number.wrapping_add(1);
        let head = wire::request_head(api, version, self.number, body.iter().map(|piece| piece.len()).sum());
        let answer = self.write_and_read(&head, body).await.map_err(|error| broken(&error))?;
        self.used_at = Instant::now();
        let (number, answer) = answer.split_first_chunk::<4>().map(|(number, _)| (*number, answer.slice(4..))).ok_or(Malformed)?;
        // There is one request at a time, so another number is another protocol.
        if i32::from_be_bytes(number) != self.number { Err(Malformed.into()) } else { Ok(answer) }
    }

    async fn write_and_read(&mut self, head: &[u8], body: &[&[u8]]) -> io::Result<Bytes> {
        self.stream.write_all(head).await?;
        for piece in body {
            self.stream.write_all(piece).await?;
        }
        self.stream.flush().await?;
        let len = self.stream.read_i32().await?;
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_ANSWER_BYTES);
        let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what the broker says is no answer of Kafka's"))?;
        // As it comes, so that a length alone takes no memory.
        let mut answer = Vec::new();
        (&mut self.stream).take(len as u64).read_to_end(&mut answer).await?;
        if answer.len() < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer.into()) }
    }
}
