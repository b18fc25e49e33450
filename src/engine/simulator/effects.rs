//! The worker's effects on everything that is not the ledger's: what is asked of the authority, the servers, the
//! targets and the store's own keys.

use super::super::account;
use super::super::attempt::{Effect, Event};
use super::super::delivery;
use super::super::ledger::RecordId;
use super::super::order::CaFault;
use super::super::propagation::{Observation, Outcome};
use super::Kind;
use super::authority::{Leaf, Reply, Request};
use super::check::Invariant;
use super::feedback::{key_key, put};
use super::host::{number, observation};
use super::life::Life;
use super::mutants::Mutant;

impl Life<'_> {
    pub(super) fn act_account(&mut self, flight: u64, effect: account::Effect) -> account::Event {
        match effect {
            account::Effect::MakeKey => {
                let key = self.world.draw_key();
                self.hold_key(flight, key);
                account::Event::KeySaved(format!("thumbprint-{key}"))
            }
            account::Effect::Register => {
                let Some(key) = self.read_key("account-key") else {
                    self.checks
                        .violated(Invariant::NoKeyLost, "the account has no key");
                    return account::Event::Registered(Err(CaFault::Malformed(
                        "no key".to_owned(),
                    )));
                };
                let exchange = self
                    .world
                    .exchange(self.now, None, &Request::Register { key });
                account::Event::Registered(exchange.result.map(|reply| match reply {
                    Reply::Registered(url) => url,
                    other => unreachable!("{other:?} to newAccount"),
                }))
            }
        }
    }

    pub(super) fn act_attempt(
        &mut self,
        flight: u64,
        slot: usize,
        epoch: u64,
        effect: &Effect,
    ) -> Event {
        match effect {
            Effect::NewOrder => {
                let identifiers = self.world.wishes[slot].identifiers.clone();
                Event::Ordered(self.order(
                    flight,
                    slot,
                    &Request::NewOrder {
                        slot,
                        epoch,
                        identifiers,
                    },
                ))
            }
            Effect::FetchOrder(url) => {
                Event::Order(self.order(flight, slot, &Request::Order(url.clone())))
            }
            Effect::FetchAuthorization { part, url } => {
                let reply = self.ask(flight, slot, &Request::Authorization(url.clone()));
                Event::Authorization(
                    *part,
                    reply.map(|reply| match reply {
                        Reply::Authorization(seen) => seen,
                        other => unreachable!("{other:?} for an authorization"),
                    }),
                )
            }
            Effect::Locate { part, identifier } => {
                Event::Located(*part, self.world.locate(identifier))
            }
            Effect::Settle { part, .. } => Event::Settled(*part),
            Effect::Observe {
                part,
                record,
                servers,
            } => {
                let ask = servers
                    .iter()
                    .map(|(_, address)| number(*address))
                    .collect::<Vec<_>>();
                Event::Observed(*part, self.observe((slot, *part), record, &ask))
            }
            Effect::Respond { part, url } => {
                let thumbprint = self.thumbprint();
                let request = Request::Respond {
                    url: url.clone(),
                    thumbprint,
                    spoiled: None,
                };
                Event::Responded(
                    *part,
                    self.ask(flight, slot, &request).map(|reply| match reply {
                        Reply::Challenge(seen) => seen,
                        other => unreachable!("{other:?} for a challenge"),
                    }),
                )
            }
            Effect::MakeKey => {
                let key = self.world.draw_key();
                self.hold_key(flight, key);
                Event::KeySaved
            }
            Effect::Finalize(url) => self.finalize(flight, slot, epoch, url),
            Effect::Download(url) => self.download(flight, slot, epoch, url),
            Effect::Present { .. } | Effect::Release { .. } => unreachable!("the ledger does it"),
        }
    }

    pub(super) fn act_delivery(
        &mut self,
        slot: usize,
        effect: delivery::Effect,
    ) -> delivery::Event {
        if effect == delivery::Effect::Inspect && self.is(Mutant::DeliveryNotInspected) {
            return delivery::Event::Inspected(Ok(self.installed(slot)));
        }
        let fault = self.world.target_fault();
        let directory = &mut self.world.directories[slot];
        let done = fault != Some(false);
        let result = match fault {
            Some(_) => Err("the target says no".to_owned()),
            None => Ok(()),
        };
        match effect {
            delivery::Effect::Inspect => {
                delivery::Event::Inspected(result.map(|()| directory.installed))
            }
            delivery::Effect::Install(generation) => {
                if done {
                    directory.installed = Some(generation);
                }
                delivery::Event::Installed(generation, result)
            }
            delivery::Effect::Reload(generation) => {
                if done {
                    directory.serving = directory.installed;
                }
                delivery::Event::Reloaded(generation, result)
            }
        }
    }

    fn finalize(&mut self, flight: u64, slot: usize, epoch: u64, url: &str) -> Event {
        let saved = self.read_key(&key_key(slot, epoch));
        let key = match saved.or(self.late_key(slot)) {
            Some(key) => key,
            None => self.world.draw_key(),
        };
        let request = Request::Finalize {
            url: url.to_owned(),
            key,
            spoiled: None,
        };
        let leaves = self.world.authority.leaves.len();
        let reply = self.order(flight, slot, &request);
        let issued = self.world.authority.leaves.len() > leaves;
        self.checks
            .must(saved.is_some() || !issued, Invariant::NoKeyLost, || {
                format!("c{slot}: a certificate was issued for key {key}, which is not saved")
            });
        if self.is(Mutant::FinalizesTwiceWithNewKey) && reply.is_err() {
            let key = self.world.draw_key();
            let _ = self.store.commit(None, &[put(key_key(slot, epoch), &key)]);
        }
        Event::Finalized(reply)
    }

    fn download(&mut self, flight: u64, slot: usize, epoch: u64, url: &str) -> Event {
        match self.ask(flight, slot, &Request::Certificate(url.to_owned())) {
            Ok(Reply::Certificate(leaf)) => self.check_leaf(flight, slot, epoch, leaf),
            Ok(other) => unreachable!("{other:?} for a certificate"),
            Err(fault) => Event::DownloadFailed(fault),
        }
    }

    fn check_leaf(&mut self, flight: u64, slot: usize, epoch: u64, leaf: Leaf) -> Event {
        let key = self.read_key(&key_key(slot, epoch)).or(self.late_key(slot));
        if key != Some(leaf.key) {
            let detail = format!(
                "c{slot}: the certificate is for key {}, the store has {key:?}",
                leaf.key
            );
            self.checks.violated(Invariant::NoKeyLost, detail);
            return Event::CertificateWrong("the certificate is for another key".to_owned());
        }
        self.hold_leaf(flight, leaf);
        Event::Downloaded
    }

    fn observe(
        &mut self,
        asker: (usize, usize),
        record: &RecordId,
        servers: &[usize],
    ) -> Vec<Observation> {
        if self.is(Mutant::RespondsUnproven) {
            let yes = |&server: &usize| {
                observation(server, Outcome::Values(vec![record.value.clone()]), false)
            };
            return servers.iter().map(yes).collect();
        }
        let mut observations = Vec::new();
        for &server in servers {
            let outcome = self.world.host.observe(self.now, server, &record.name);
            self.checks.shown(asker, &record.value, server, &outcome);
            observations.push(observation(server, outcome, self.world.by_resolver));
        }
        observations
    }

    fn ask(&mut self, flight: u64, slot: usize, request: &Request) -> Result<Reply, CaFault> {
        let exchange = self.world.exchange(self.now, Some(slot), request);
        self.note_made(flight, exchange.made, exchange.lost);
        exchange.result
    }

    fn order(
        &mut self,
        flight: u64,
        slot: usize,
        request: &Request,
    ) -> Result<super::super::order::OrderSeen, CaFault> {
        self.ask(flight, slot, request).map(|reply| match reply {
            Reply::Order(order) => order,
            other => unreachable!("{other:?} for an order"),
        })
    }

    fn thumbprint(&self) -> String {
        let key = self.read_key("account-key");
        format!("thumbprint-{}", key.unwrap_or_default())
    }

    fn read_key(&self, key: &str) -> Option<u64> {
        self.store
            .read(key)
            .map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }
}

impl Kind {
    pub(super) fn of(effect: &Effect) -> Self {
        match effect {
            Effect::NewOrder => Self::NewOrder,
            Effect::FetchOrder(_) => Self::FetchOrder,
            Effect::FetchAuthorization { .. } => Self::FetchAuthorization,
            Effect::Locate { .. } => Self::Locate,
            Effect::Present { .. } => Self::Present,
            Effect::Settle { .. } => Self::Settle,
            Effect::Observe { .. } => Self::Observe,
            Effect::Respond { .. } => Self::Respond,
            Effect::Release { .. } => Self::Release,
            Effect::MakeKey => Self::MakeKey,
            Effect::Finalize(_) => Self::Finalize,
            Effect::Download(_) => Self::Download,
        }
    }

    pub(super) fn asks_authority(self) -> bool {
        matches!(
            self,
            Self::NewOrder
                | Self::FetchOrder
                | Self::FetchAuthorization
                | Self::Respond
                | Self::Finalize
                | Self::Download
        )
    }
}
