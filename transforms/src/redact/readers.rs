//! The built-in detectors on their way through a text: at each place that the scan points at, the reader that belongs there.

use super::catalog::{COUNT, Detector};
use super::scan::{self, Needs, Places};
use super::text::{Text, is_token};
use super::{bank, commands, detect, digits, key_words, keys, prose, tokens};

/// What the readers are to look for.
#[derive(Clone)]
pub(super) struct Wanted {
    /// By detector, whether it is switched on.
    on: [bool; COUNT],
    /// Whether IPv4 addresses of private networks stay.
    pub(super) keep_private: bool,
    needs: Needs,
}

impl Wanted {
    pub(super) fn new(on: [bool; COUNT], keep_private: bool) -> Wanted {
        use Detector::*;
        let any = |detectors: &[Detector]| detectors.iter().any(|detector| on[*detector as usize]);
        let needs = Needs {
            at: any(&[Email, UrlPassword]),
            words: any(&[Jwt, BearerToken, Credentials, Password, PrivateKey, Secret, CardCode]),
            accounts: any(&[Iban, Passport]),
            fillers: any(&[Mrz]),
            addresses: any(&[Ipv4]),
            clusters: any(&[Phone, CreditCard, Snils, Inn, Passport, UsSsn, ThaiId, Cccd, Nhs, Account]),
            macs: any(&[Mac]),
            colons: any(&[Ipv6]),
            runs: any(&[ApiToken, Ethereum, Bitcoin, Ton, Mrz]),
            keys: any(key_words::DETECTORS),
        };
        Wanted { on, keep_private, needs }
    }

    /// Whether a detector is switched on.
    pub(super) fn has(&self, detector: Detector) -> bool {
        self.on[detector as usize]
    }
}

/// Calls `found` with all that the detectors find in `text`, in no order; values may overlap.
///
/// In written bytes (see [`Text::raw`]) what is found is where a leaf must be looked at: escapes and keys that say something
/// are found as well.
pub(super) fn read(text: Text<'_>, wanted: &Wanted, groups: &mut Vec<(usize, usize)>, found: impl FnMut(Detector, usize, usize)) {
    let mut readers = Readers { text, wanted, groups, found, done: Done::default() };
    scan::scan(text.bytes, wanted.needs, |at, places| readers.look(at, places));
}

/// Up to where each reader has read.
#[derive(Default)]
struct Done {
    email: usize,
    jwt: usize,
    credential: usize,
    address: usize,
    cluster: usize,
    run: usize,
    ipv6: usize,
    keys: keys::Done,
    mrz: usize,
    password: (usize, usize),
    private_key: usize,
}

struct Readers<'a, F> {
    text: Text<'a>,
    wanted: &'a Wanted,
    groups: &'a mut Vec<(usize, usize)>,
    found: F,
    done: Done,
}

impl<F: FnMut(Detector, usize, usize)> Readers<'_, F> {
    #[inline(always)]
    fn look(&mut self, block: usize, places: Places) {
        each_bit(places.keys, |bit| self.key(block + bit));
        each_bit(places.clusters, |bit| self.clusters(block + bit));
        each_bit(places.runs, |bit| self.run(block + bit));
        let rare = places.at | places.words | places.accounts | places.fillers | places.escapes;
        if rare | places.addresses | places.macs | places.colons == 0 {
            return;
        }
        each_bit(places.at, |bit| self.at_sign(block + bit));
        each_bit(places.escapes, |bit| self.escape(block + bit));
        each_bit(places.words, |bit| self.word(block + bit));
        each_bit(places.accounts, |bit| self.account(block + bit));
        each_bit(places.fillers, |bit| self.mrz(block + bit));
        each_bit(places.addresses, |bit| self.address(block + bit));
        each_bit(places.macs, |bit| self.mac(block + bit));
        each_bit(places.colons, |bit| self.ipv6(block + bit));
    }

    fn emit(&mut self, detector: Detector, start: usize, end: usize) {
        if self.wanted.has(detector) {
            (self.found)(detector, start, end);
        }
    }

    /// What is written otherwise, which in written bytes may be anything; in a decoded text `№`.
    fn escape(&mut self, at: usize) {
        if self.text.raw {
            return (self.found)(Detector::Email, at, at + 1);
        }
        if self.text.bytes[at..].starts_with("№".as_bytes())
            && let Some((start, end)) = digits::passport(&self.text, at)
        {
            self.emit(Detector::Passport, start, end);
        }
    }

    fn word(&mut self, at: usize) {
        let bytes = self.text.bytes;
        match bytes[at] | 0x20 {
            b'e' => self.jwt(at),
            b'p' if bytes[at + 1] | 0x20 == b'a' => {
                if let Some((start, end)) = keys::prose_password(&self.text, at) {
                    self.emit(Detector::Password, start, end);
                }
            }
            b'p' => self.credential(at.saturating_sub(1)), // `apikey`
            b'b' if bytes[at..].starts_with(b"BEG") => self.private_key(at),
            b'o' | b'c' | b'm' => self.prose(at),
            _ if bytes[at] >= 0x80 => self.prose(at),
            _ if matches!(bytes[at], b'-' | b' ') => self.option(at),
            _ => self.credential(at),
        }
    }

    fn prose(&mut self, at: usize) {
        if let Some((detector, start, end)) = prose::value(&self.text, at) {
            self.emit(detector, start, end);
        }
    }

    /// `--password x`, ` -u user:x`.
    fn option(&mut self, at: usize) {
        let long = self.text.bytes[at] == b'-';
        let found = if long { commands::option(&self.text, at) } else { commands::short_option(&self.text, at) };
        if let Some((detector, start, end)) = found {
            self.emit(detector, start, end);
        }
    }

    fn account(&mut self, at: usize) {
        if let Some((start, end)) = bank::iban(&self.text, at) {
            self.emit(Detector::Iban, start, end);
        } else if let Some((start, end)) = digits::lettered_passport(&self.text, at) {
            self.emit(Detector::Passport, start, end);
        }
    }

    fn private_key(&mut self, at: usize) {
        if at >= self.done.private_key
            && let Some((start, end)) = detect::private_key(&self.text, at)
        {
            self.done.private_key = end;
            self.emit(Detector::PrivateKey, start, end);
        }
    }

    fn credential(&mut self, at: usize) {
        if at >= self.done.credential
            && let Some((detector, start, end)) = detect::credential(&self.text, at)
        {
            self.done.credential = end;
            self.emit(detector, start, end);
        }
    }

    fn at_sign(&mut self, at: usize) {
        if self.text.raw {
            return (self.found)(Detector::Email, at, at + 1);
        }
        if let Some((start, end)) = detect::url_password(&self.text, at, self.done.password) {
            self.done.password = (start, end);
            self.done.email = self.done.email.max(end);
            return self.emit(Detector::UrlPassword, start, end);
        }
        if let Some((start, end)) = detect::email(self.text.bytes, at, self.done.email) {
            self.done.email = end;
            if detect::is_email(&self.text.bytes[start..end]) {
                self.emit(Detector::Email, start, end);
            }
        }
    }

    fn jwt(&mut self, start: usize) {
        if start < self.done.jwt || !self.text.bytes[start..].starts_with(b"eyJ") {
            return;
        }
        match detect::jwt(self.text.bytes, start) {
            Ok(end) => {
                self.done.jwt = end;
                self.emit(Detector::Jwt, start, end);
            }
            Err(end) => self.done.jwt = end,
        }
    }

    fn mrz(&mut self, at: usize) {
        if at < self.done.mrz {
            return;
        }
        match detect::mrz(&self.text, at) {
            Ok((start, end)) => {
                self.done.mrz = end;
                self.emit(Detector::Mrz, start, end);
            }
            Err(end) => self.done.mrz = end,
        }
    }

    fn address(&mut self, third_dot: usize) {
        if third_dot < self.done.address {
            return;
        }
        if let Some((start, end)) = detect::ipv4(&self.text, third_dot) {
            self.done.address = end;
            if detect::is_ipv4(&self.text.bytes[start..end], self.wanted.keep_private) && !detect::is_version(&self.text, start) {
                self.emit(Detector::Ipv4, start, end);
            }
        }
    }

    fn mac(&mut self, fifth: usize) {
        if let Some((start, end)) = detect::mac(&self.text, fifth) {
            self.emit(Detector::Mac, start, end);
        }
    }

    fn ipv6(&mut self, at: usize) {
        if at < self.done.ipv6 {
            return;
        }
        if self.text.raw && detect::after_escape(self.text.bytes, at) {
            return self.emit(Detector::Ipv6, at, at + 1);
        }
        match detect::ipv6(&self.text, at) {
            Ok((start, end)) => {
                self.done.ipv6 = end;
                self.emit(Detector::Ipv6, start, end);
            }
            Err(end) => self.done.ipv6 = end,
        }
    }

    /// All clusters from the one around `at` on, as long as there are two separators between them at most.
    fn clusters(&mut self, at: usize) {
        let bytes = self.text.bytes;
        let mut at = at - bytes[..=at].iter().rev().take(3).take_while(|byte| !byte.is_ascii_digit()).count();
        loop {
            if at < self.done.cluster || !bytes[at].is_ascii_digit() {
                return;
            }
            let start = digits::cluster_start(bytes, at, self.done.cluster);
            let (wanted, found) = (self.wanted, &mut self.found);
            let end = digits::in_cluster(&self.text, start, self.groups, |detector, start, end| {
                if wanted.has(detector) {
                    found(detector, start, end);
                }
            });
            self.done.cluster = end;
            at = end + bytes[end..].iter().take(2).take_while(|byte| digits::is_separator(**byte)).count();
            if at == end || at >= bytes.len() {
                return;
            }
        }
    }

    /// The run of token characters around `at`.
    fn run(&mut self, at: usize) {
        if at < self.done.run {
            return;
        }
        let bytes = self.text.bytes;
        let start = at - bytes[self.done.run..at].iter().rev().take_while(|byte| is_token(**byte)).count();
        let end = self.text.run(at, is_token);
        self.done.run = end;
        let (wanted, found) = (self.wanted, &mut self.found);
        tokens::in_run(&self.text, start, end, |detector, start, end| {
            if wanted.has(detector) {
                found(detector, start, end);
            }
        });
        // Not by way of what was read before: fillers of the line above may be looked at after this.
        if (44..=45).contains(&(end - start))
            && let Ok((start, end)) = detect::mrz(&self.text, start)
        {
            self.emit(Detector::Mrz, start, end);
        }
    }

    fn key(&mut self, at: usize) {
        if self.text.raw {
            if let Some((says, last)) = keys::named(&self.text, at)
                && self.wanted.has(says.detector)
                && (!says.strict || keys::may_be_personal(self.text.bytes, last, says.detector))
            {
                (self.found)(says.detector, at, at + 1);
            }
            return;
        }
        let Some(value) = keys::value(&self.text, at, &self.done.keys) else { return };
        let (wanted, found) = (self.wanted, &mut self.found);
        let read = keys::judge(&self.text, &value, |detector, start, end| {
            if wanted.has(detector) {
                found(detector, start, end);
            }
        });
        self.done.keys.passed(&value, read);
    }
}

fn each_bit(mut bits: u64, mut visit: impl FnMut(usize)) {
    while bits != 0 {
        visit(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}
