use std::sync::atomic::AtomicU64 as Atomic;

use super::*;

/// A clock that a test sets.
struct Set(Atomic);

impl Clock for Set {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    fn unix_nanos(&self) -> i64 {
        0
    }
}

fn store() -> (Arc<Set>, Store) {
    let clock = Arc::new(Set(Atomic::new(1)));
    let config = KubernetesConfig { metadata_wait_secs: 5, ..KubernetesConfig::default() };
    (clock.clone(), Store::new(config, "n".into(), clock))
}

fn facts(name: &str) -> Facts {
    Facts { name: name.into(), namespace: "ns".into(), ..Facts::default() }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_pod_is_complete_with_its_node_and_changes_from_then_on() {
    let (_, store) = store();
    let slot = store.slot("u");
    let before = store.version(&slot);
    assert!(!store.view(&slot, "ns").complete);
    store.put("u", facts("a"));
    assert!(!store.view(&slot, "ns").complete, "the region is not known");
    store.put_node(Pairs::new());
    assert!(store.view(&slot, "ns").complete);
    let after = store.version(&slot);
    assert!(after > before);
    store.put("u", facts("a"));
    store.put_node(Pairs::new());
    store.put("other", facts("b"));
    assert_eq!(store.version(&slot), after, "nothing of it changed");
    store.put("u", facts("c"));
    assert_ne!(store.version(&slot), after);
}

#[test]
fn lines_of_a_pod_wait_once() {
    let (_, store) = store();
    let slot = store.slot("u");
    assert_eq!(store.waits_until(&slot, Nanos(SECOND)), Nanos(6 * SECOND));
    assert_eq!(store.waits_until(&slot, Nanos(4 * SECOND)), Nanos(6 * SECOND));
    assert!(store.has_unknown());
    store.put("u", facts("a"));
    assert!(!store.has_unknown());
}

#[test]
fn a_pod_is_kept_while_someone_reads_its_logs() {
    let (clock, store) = store();
    let set = |seconds: u64| clock.0.store(seconds * SECOND, Ordering::Relaxed);
    let held = store.slot("held");
    for uid in ["held", "free", "there"] {
        store.put(uid, facts(uid));
    }
    let _unknown = store.slot("unknown");
    drop(store.slot("nobody"));
    store.gone("held", None);
    store.only(&HashSet::from(["there".into()]));
    let known = |store: &Store| store.snapshot().pods.into_keys().map(String::from).collect::<Vec<_>>();
    set(60);
    store.clean();
    assert_eq!(known(&store), ["free", "held", "there"], "it may have logs that are found late");
    set(700);
    store.clean();
    assert_eq!(known(&store), ["held", "there"]);
    assert_eq!(store.counts.pods.get(), 2);
    drop(held);
    store.clean();
    assert_eq!(known(&store), ["there"]);
    assert_eq!(store.pods().len(), 2, "the one that someone holds and nobody knows");
}

#[test]
fn static_pods_are_found_by_the_name_of_their_directory() {
    let (_, store) = store();
    let slot = store.slot("hash");
    store.put("uid", Facts { config_hash: Some("hash".into()), ..facts("etcd-n") });
    assert_eq!(&*store.view(&slot, "ns").facts.unwrap().name, "etcd-n");
    store.gone("uid", Some("hash"));
    assert!(slot.state().gone.is_some());
}

#[test]
fn what_an_earlier_run_knew_counts_until_it_is_known_better() {
    let (clock, first) = store();
    for uid in ["stays", "went", "goes", "read"] {
        first.put(uid, facts(uid));
    }
    first.put_node(Pairs::from([("zone".into(), "z".into())]));
    first.gone("went", None);
    let (_, mut second) = store();
    second.clock = clock.clone();
    second.restore(first.snapshot());
    let read = second.slot("read");
    assert!(second.view(&read, "ns").complete);
    let known = || second.snapshot().pods.into_keys().map(String::from).collect::<Vec<_>>();
    let set = |seconds: u64| clock.0.store(seconds * SECOND, Ordering::Relaxed);
    second.clean();
    assert_eq!(known(), ["goes", "read", "stays", "went"]);
    // The API server is away for an hour: only what was known to be gone may be forgotten.
    set(3_600);
    second.clean();
    assert_eq!(known(), ["goes", "read", "stays"], "nobody said that they are gone");
    second.only(&HashSet::from(["stays".into()]));
    second.put("stays", facts("stays"));
    assert_eq!(second.snapshot().gone, BTreeSet::from(["goes".into(), "read".into()]));
    set(3_600 + 700);
    second.clean();
    assert_eq!(known(), ["read", "stays"], "its logs are still there");
    drop(read);
    second.clean();
    assert_eq!(known(), ["stays"]);
}

#[test]
fn who_is_gone_and_comes_back_is_not_forgotten() {
    let (clock, store) = store();
    store.put("u", facts("a"));
    store.gone("u", None);
    let before = store.changes();
    store.put("u", facts("a"));
    assert_ne!(store.changes(), before, "the cache on disk says that it is gone");
    clock.0.store(3_600 * SECOND, Ordering::Relaxed);
    store.clean();
    assert_eq!(store.snapshot().pods.len(), 1);
}

#[test]
fn the_last_lines_of_a_deleted_namespace_have_its_labels() {
    let (clock, store) = store();
    let slot = store.slot("u");
    store.put("u", facts("a"));
    let labels = Pairs::from([("env".into(), "prod".into())]);
    store.put_namespace("ns", labels.clone(), true);
    clock.0.store(NAMESPACE_AGE.as_nanos() as u64 + 2, Ordering::Relaxed);
    store.namespace_gone("ns");
    let view = store.view(&slot, "ns");
    assert_eq!((view.namespace.as_deref(), view.excluded), (Some(&labels), true));
    let (_, next) = self::store();
    next.restore(store.snapshot());
    assert!(next.view(&slot, "ns").excluded, "after a restart too");
    assert!(store.stale_namespaces().is_empty(), "it is not asked for again at once");
    store.namespace_gone("never-seen");
    assert_eq!(store.view(&slot, "never-seen").namespace.as_deref(), Some(&Pairs::new()), "nothing waits for it");
}

#[test]
fn only_namespaces_with_pods_here_are_asked_for() {
    let (clock, store) = store();
    store.put("u", facts("a"));
    assert_eq!(store.stale_namespaces(), [Box::<str>::from("ns")]);
    store.put_namespace("ns", Pairs::new(), false);
    store.put_namespace("old", Pairs::new(), false);
    assert!(store.stale_namespaces().is_empty());
    assert_eq!(store.snapshot().namespaces.len(), 1);
    clock.0.store(NAMESPACE_AGE.as_nanos() as u64 + 2, Ordering::Relaxed);
    assert_eq!(store.stale_namespaces(), [Box::<str>::from("ns")]);
}
