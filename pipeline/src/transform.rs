//! The trait of transforms, and what they report.

use std::sync::Arc;

use crate::batch::Batch;

/// A pure function on batches: no I/O, no clock, no async, and nothing held back for the next batch.
///
/// A worker owns its transforms, so they may keep caches and scratch space; what they remember must not change what they
/// give out for a batch.
pub trait Transform: Send {
    /// Changes the batch in place.
    fn apply(&mut self, batch: &mut Batch, report: &mut Report);
}

/// What transforms count, gathered by the worker and added to the totals now and then. Never content.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records that a filter dropped on purpose.
    pub filtered: u64,
    /// Lines that should have been JSON and stayed text.
    pub not_json: u64,
    redactions: Vec<Redaction>,
}

/// How many values a rule took out of the records of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redaction {
    /// The rule and what it did: `email`, `email.mask`.
    pub rule: Arc<str>,
    /// The namespace of the pods that wrote them, where they come from pods; [`OTHERS`] for all that are not counted apart.
    pub namespace: Option<Arc<str>>,
    /// How many.
    pub count: u64,
}

/// How many namespaces are counted apart: a cluster may have as many as it likes.
const MAX_NAMESPACES: usize = 200;

/// What those beyond are called, and those that are gone: no name of a namespace, which has no `_`.
pub const OTHERS: &str = "_others";

impl Report {
    /// Counts `count` values that `rule` took out of records of `namespace`.
    pub fn redacted(&mut self, rule: &Arc<str>, namespace: Option<&Arc<str>>, count: u64) {
        let same = |known: &Redaction, namespace: Option<&Arc<str>>| known.rule == *rule && known.namespace.as_ref() == namespace;
        if let Some(known) = self.redactions.iter_mut().find(|known| same(known, namespace)) {
            known.count += count;
            return;
        }
        let is_new = namespace.is_some_and(|new| !self.redactions.iter().any(|known| known.namespace.as_ref() == Some(new)));
        let others: Arc<str> = OTHERS.into();
        if is_new && self.namespaces() >= MAX_NAMESPACES && namespace != Some(&others) {
            return self.redacted(rule, Some(&others), count);
        }
        self.redactions.push(Redaction { rule: rule.clone(), namespace: namespace.cloned(), count });
    }

    fn namespaces(&self) -> usize {
        let mut all: Vec<&str> = self.redactions.iter().filter_map(|known| known.namespace.as_deref()).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    /// The number of values that each rule took out, in all namespaces.
    pub fn redactions(&self) -> Vec<(Arc<str>, u64)> {
        let mut rules: Vec<(Arc<str>, u64)> = Vec::new();
        for Redaction { rule, count, .. } in &self.redactions {
            match rules.iter_mut().find(|(name, _)| name == rule) {
                Some((_, total)) => *total += count,
                None => rules.push((rule.clone(), *count)),
            }
        }
        rules
    }

    /// The same by namespace.
    pub fn redactions_by_namespace(&self) -> &[Redaction] {
        &self.redactions
    }

    /// Counts the namespaces that `is_there` does not hold for with the [`OTHERS`] from now on.
    pub fn forget_namespaces(&mut self, is_there: impl Fn(&str) -> bool) {
        let gone = |known: &Redaction| known.namespace.as_deref().is_some_and(|name| name != OTHERS && !is_there(name));
        if !self.redactions.iter().any(gone) {
            return;
        }
        for known in std::mem::take(&mut self.redactions) {
            let namespace = if gone(&known) { Some(Arc::from(OTHERS)) } else { known.namespace.clone() };
            self.redacted(&known.rule, namespace.as_ref(), known.count);
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Report) {
        self.filtered += other.filtered;
        self.not_json += other.not_json;
        for Redaction { rule, namespace, count } in &other.redactions {
            self.redacted(rule, namespace.as_ref(), *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(report: &Report) -> Vec<String> {
        let mut all: Vec<String> = report
            .redactions_by_namespace()
            .iter()
            .map(|Redaction { rule, namespace, count }| format!("{rule} {} {count}", namespace.as_deref().unwrap_or("-")))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn namespaces_are_counted_apart_up_to_a_bound_and_until_they_are_gone() {
        let [email, phone]: [Arc<str>; 2] = ["email".into(), "phone".into()];
        let (shop, bank): (Arc<str>, Arc<str>) = ("shop".into(), "bank".into());
        let mut report = Report::default();
        for (rule, namespace, count) in [(&email, Some(&shop), 2), (&email, Some(&bank), 3), (&phone, None, 1), (&email, Some(&shop), 1)] {
            report.redacted(rule, namespace, count);
        }
        assert_eq!(shown(&report), ["email bank 3", "email shop 3", "phone - 1"]);
        assert_eq!(report.redactions(), [(email.clone(), 6), (phone.clone(), 1)]);
        report.forget_namespaces(|name| name == "bank");
        assert_eq!(shown(&report), ["email _others 3", "email bank 3", "phone - 1"]);
        for number in 0..2 * MAX_NAMESPACES {
            report.redacted(&phone, Some(&format!("ns-{number}").into()), 1);
        }
        assert_eq!(report.namespaces(), MAX_NAMESPACES);
        let total: u64 = report.redactions().iter().map(|(_, count)| count).sum();
        assert_eq!(total, 7 + 2 * MAX_NAMESPACES as u64);
    }
}
