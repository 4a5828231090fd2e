//! Pods from the kubelet of this node, for clusters where the API server is to be spared even a watch.

use std::collections::HashSet;
use std::time::Duration;

use kube::Config;

use super::api::{Api, Failure, no_json};
use super::config::KubernetesConfig;
use super::items::{Items, Part};
use super::objects::Pod;
use super::watch::Asker;

/// The time between two questions.
const INTERVAL: Duration = Duration::from_secs(30);
/// The time between two questions while a log waits for a pod that is not known.
const HURRY: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(30);

/// The kubelet, asked with the credentials for the API server.
pub(super) async fn connect(config: &KubernetesConfig) -> Result<Api, Failure> {
    let mut server: Config = Api::config(config.kube_config_file.as_deref()).await?;
    server.cluster_url = config.kubelet.endpoint.parse().map_err(Failure::new)?;
    if let Some(file) = &config.kubelet.ca_file {
        (server.root_cert, server.root_cert_file) = (None, Some(file.clone()));
    }
    server.accept_invalid_certs = !config.kubelet.verify_certificate;
    Api::with(server)
}

impl Asker {
    /// Keeps the store in line with what the kubelet says, for ever.
    pub(super) async fn kubelet_pods(mut self, kubelet: Api) {
        loop {
            match self.ask_kubelet(&kubelet).await {
                Ok(()) => self.failures = 0,
                Err(failure) => {
                    self.store.counts.connected.set(0);
                    self.failed(&failure).await;
                    continue;
                }
            }
            tokio::time::sleep(HURRY).await;
            if !self.store.has_unknown() {
                let _ = tokio::time::timeout(INTERVAL, self.store.unknown_pod.notified()).await;
            }
        }
    }

    async fn ask_kubelet(&self, kubelet: &Api) -> Result<(), Failure> {
        self.store.counts.lists.add(1);
        let mut answer = kubelet.get("/pods").await?;
        let (mut items, mut there, mut wrong) = (Items::default(), HashSet::new(), None);
        while let Some(bytes) = answer.next(SILENCE).await? {
            let give = |part: Part<'_>| {
                if let Part::Item(text) = part {
                    match serde_json::from_slice::<Pod>(text) {
                        Ok(pod) => self.take(pod, Some(&mut there)),
                        Err(error) => wrong = Some(error),
                    }
                }
            };
            items.feed(&bytes, give).map_err(|_| Failure::new("an object is too long"))?;
        }
        if let Some(error) = wrong {
            return Err(no_json(error));
        }
        if !items.ended() {
            return Err(Failure::new("the list broke off"));
        }
        self.store.only(&there);
        self.answered();
        Ok(())
    }
}
