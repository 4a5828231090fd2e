//! Bytes that were lost, by the pod whose log they were of.
//!
//! There are few series at a time, however many pods come and go: a pod is in the list for an hour after its last loss, and
//! where too many lose something at once, those that come later are counted together. The sum over all of the run is
//! [`SourceStats::lost_bytes`](super::SourceStats::lost_bytes).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::edge::Nanos;

/// How many pods are counted apart.
const MAX_PODS: usize = 100;
/// How long a pod that loses nothing more is in the list: long enough to be seen by whoever was called because of it.
const KEEP: Duration = Duration::from_secs(3_600);
/// What those beyond are called: no name in Kubernetes, which has no `_`.
const OTHERS: &str = "_others";

/// Lost bytes by namespace and pod.
#[derive(Debug, Default)]
pub struct LostByPod(Mutex<Pods>);

/// By namespace and name.
type Pods = BTreeMap<(Box<str>, Box<str>), Lost>;

#[derive(Debug, Default)]
struct Lost {
    bytes: u64,
    last: Nanos,
}

impl LostByPod {
    /// Counts `bytes` that were lost of a log of `pod` in `namespace`.
    pub fn add(&self, namespace: &str, pod: &str, bytes: u64, now: Nanos) {
        if bytes == 0 {
            return;
        }
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut pods, now);
        let mut name: (Box<str>, Box<str>) = (namespace.into(), pod.into());
        if !pods.contains_key(&name) && pods.len() >= MAX_PODS {
            name = (OTHERS.into(), OTHERS.into());
        }
        let lost = pods.entry(name).or_default();
        lost.bytes = lost.bytes.saturating_add(bytes);
        lost.last = now;
    }

    /// The namespaces and pods that lost something lately, each with how many bytes.
    pub fn by_pod(&self, now: Nanos) -> Vec<(Box<str>, Box<str>, u64)> {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut pods, now);
        pods.iter().map(|((namespace, pod), lost)| (namespace.clone(), pod.clone(), lost.bytes)).collect()
    }
}

fn forget_old(pods: &mut Pods, now: Nanos) {
    pods.retain(|_, lost| now.since(lost.last) < KEEP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_named_for_an_hour_and_are_few() {
        let (lost, start) = (LostByPod::default(), Nanos(0).after(KEEP));
        lost.add("shop", "cart", 0, start);
        assert_eq!(lost.by_pod(start), [], "nothing was lost");
        lost.add("shop", "cart", 5, start);
        lost.add("shop", "cart", 2, start.after(KEEP / 2));
        let cart = ("shop".into(), "cart".into(), 7);
        assert_eq!(lost.by_pod(start.after(KEEP)), std::slice::from_ref(&cart));
        let later = start.after(KEEP);
        (0..1_000).for_each(|pod| lost.add("many", &format!("p{pod}"), 1, later));
        let all = lost.by_pod(later);
        assert_eq!(all.len(), MAX_PODS + 1);
        assert!(all.contains(&cart));
        assert!(all.contains(&(OTHERS.into(), OTHERS.into(), 1_000 - (MAX_PODS as u64 - 1))));
        assert_eq!(lost.by_pod(later.after(KEEP)), []);
    }
}
