//! Which entries become records: by unit, by field, by boot.

use std::collections::BTreeMap;

use globset::GlobSet;

use super::super::file::glob_set;
use super::format::Field;

/// Which entries become records.
#[derive(Debug)]
pub(super) struct Wanted {
    pub boot: Option<[u8; 16]>,
    pub include_units: Option<GlobSet>,
    pub exclude_units: Option<GlobSet>,
    pub include_matches: BTreeMap<String, Vec<String>>,
    pub exclude_matches: BTreeMap<String, Vec<String>>,
    /// The agent's own, which is left out.
    pub own_unit: Option<String>,
}

impl Wanted {
    pub(super) fn takes_boot(&self, boot: &[u8; 16]) -> bool {
        self.boot.is_none_or(|wanted| wanted == *boot)
    }

    pub(super) fn takes(&self, fields: &[Field]) -> bool {
        let text = |name: &'static str| {
            let named = move |field: &&Field| field.name() == name.as_bytes();
            fields.iter().filter(named).filter_map(|field| std::str::from_utf8(field.value()).ok())
        };
        if self.own_unit.as_ref().is_some_and(|own| text("_SYSTEMD_UNIT").any(|unit| unit == own)) {
            return false;
        }
        let is_manager = text("_PID").any(|pid| pid == "1");
        let of_units = |units: &GlobSet| {
            text("_SYSTEMD_UNIT").any(|unit| units.is_match(unit)) || is_manager && text("UNIT").any(|unit| units.is_match(unit))
        };
        let has = |name: &str, values: &[String]| {
            let one_of = |field: &&Field| values.iter().any(|value| value.as_bytes() == field.value());
            fields.iter().filter(|field| field.name() == name.as_bytes()).any(|field| one_of(&field))
        };
        self.include_units.as_ref().is_none_or(of_units)
            && !self.exclude_units.as_ref().is_some_and(of_units)
            && self.include_matches.iter().all(|(name, values)| has(name, values))
            && !self.exclude_matches.iter().any(|(name, values)| has(name, values))
    }
}

/// Patterns of units; a name without a dot is that of a service.
pub(super) fn units(names: &[String]) -> anyhow::Result<Option<GlobSet>> {
    let full = |name: &String| if name.contains('.') { name.clone() } else { format!("{name}.service") };
    let names: Vec<String> = names.iter().map(full).collect();
    Ok(if names.is_empty() { None } else { Some(glob_set(names.iter().map(String::as_str))?) })
}

/// The service that the agent runs as, from its cgroup (cgroups(7)); `None` where it was started by hand.
pub(super) fn own_unit() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.ends_with(".service")).map(str::to_owned)
}

/// The id of this boot (random(4)).
pub(super) fn current_boot() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let mut id = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
    Some(id)
}
