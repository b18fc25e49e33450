//! What an attempt wants done, from what is saved and known.

use countersign_providers::clock::later;

use super::{Attempt, AuthorizationKnown, Effect, GATHERING, Held};
use crate::engine::names::Identifier;
use crate::engine::order::{AuthorizationStatus, ChallengeStatus, OrderStatus};
use crate::engine::{EffectId, Wanted};

impl Attempt {
    pub(super) fn wanted(&self) -> Vec<Wanted<Effect>> {
        if !self.is_working() {
            return self.releases(|_| true);
        }
        let Some(url) = &self.order_url else {
            return vec![self.ca_effect("new-order", 0, Effect::NewOrder)];
        };
        let mut wanted = Vec::new();
        if !self.key_saved {
            wanted.push(Wanted {
                id: EffectId::new("make-key", 0, 0),
                effect: Effect::MakeKey,
                from: None,
            });
        }
        let Some(order) = &self.known.order else {
            wanted.push(self.fetch_order(url));
            return wanted;
        };
        match order.status {
            OrderStatus::Pending | OrderStatus::Unknown if !self.all_valid() => {
                for (part, known) in self.known.authorizations.iter().enumerate() {
                    wanted.extend(self.authorization_effect(part, known));
                    wanted.extend(self.settle(part, known));
                }
                if order.status == OrderStatus::Unknown {
                    wanted.push(self.fetch_order(url));
                }
            }
            OrderStatus::Unknown => wanted.push(self.fetch_order(url)),
            OrderStatus::Pending | OrderStatus::Ready => {
                if self.key_saved {
                    let finalize = Effect::Finalize(order.finalize.clone());
                    wanted.push(self.ca_effect("finalize", 0, finalize));
                }
            }
            OrderStatus::Processing => wanted.push(self.fetch_order(url)),
            OrderStatus::Valid => match &order.certificate {
                Some(certificate) => {
                    let download = Effect::Download(certificate.clone());
                    wanted.push(self.ca_effect("download", 0, download));
                }
                None => wanted.push(self.fetch_order(url)),
            },
            // Only until its authorizations have said why.
            OrderStatus::Invalid => {
                let parts = self.known.authorizations.iter().enumerate();
                wanted.extend(
                    parts
                        .filter(|(_, known)| known.seen.is_none())
                        .map(|(part, known)| self.fetch_authorization(part, known)),
                );
            }
        }
        wanted.extend(self.releases(self.is_over()));
        wanted
    }

    fn authorization_effect(
        &self,
        part: usize,
        known: &AuthorizationKnown,
    ) -> Option<Wanted<Effect>> {
        let Some(seen) = &known.seen else {
            return Some(self.fetch_authorization(part, known));
        };
        let waits = matches!(
            seen.status,
            AuthorizationStatus::Pending | AuthorizationStatus::Unknown
        );
        if !waits {
            return None;
        }
        let challenge = seen.challenge.as_ref()?;
        let asked = known.responded || challenge.status != ChallengeStatus::Pending;
        if asked || seen.status == AuthorizationStatus::Unknown {
            return Some(self.fetch_authorization(part, known));
        }
        if known.proven && known.spreading {
            return None;
        }
        if known.proven {
            let respond = Effect::Respond {
                part,
                url: challenge.url.clone(),
            };
            return Some(Wanted {
                id: EffectId::new("respond", part, known.turn),
                effect: respond,
                from: self.not_before,
            });
        }
        let held = self.held(&known.url);
        let (Some(held), Some(watch)) = (held, &known.watch) else {
            let identifier = Identifier {
                base: seen.identifier.clone(),
                wildcard: seen.wildcard,
            };
            return Some(Wanted {
                id: EffectId::new("locate", part, known.turn),
                effect: Effect::Locate { part, identifier },
                from: known.not_before,
            });
        };
        let record = held.record.clone();
        if !known.present {
            let together = known.located.filter(|_| self.is_gathering());
            let together = together.map(|at| later(at, GATHERING));
            return Some(Wanted {
                id: EffectId::new("present", part, known.turn),
                effect: Effect::Present {
                    part,
                    owner: self.request.owner(&known.url),
                    record,
                },
                from: known.not_before.max(together),
            });
        }
        let (servers, from) = watch.next();
        Some(Wanted {
            id: EffectId::new("observe", part, watch.rounds()),
            effect: Effect::Observe {
                part,
                record,
                servers,
            },
            from,
        })
    }

    /// The host is heard meanwhile.
    fn settle(&self, part: usize, known: &AuthorizationKnown) -> Option<Wanted<Effect>> {
        let held = self.held(&known.url).filter(|_| known.spreading)?;
        Some(Wanted {
            id: EffectId::new("settle", part, 0),
            effect: Effect::Settle {
                part,
                record: held.record.clone(),
            },
            from: None,
        })
    }

    /// A request of which there is one at a time.
    fn ca_effect(&self, what: &str, part: usize, effect: Effect) -> Wanted<Effect> {
        Wanted {
            id: EffectId::new(what, part, self.known.turn),
            effect,
            from: self.not_before,
        }
    }

    fn fetch_order(&self, url: &str) -> Wanted<Effect> {
        let what = Effect::FetchOrder(url.to_owned());
        let mut wanted = self.ca_effect("order", self.known.order_looks as usize, what);
        wanted.from = wanted.from.max(self.known.order_due);
        wanted
    }

    fn fetch_authorization(&self, part: usize, known: &AuthorizationKnown) -> Wanted<Effect> {
        let effect = Effect::FetchAuthorization {
            part,
            url: known.url.clone(),
        };
        Wanted {
            id: EffectId::new(&format!("authorization/{}", known.looks), part, known.turn),
            effect,
            from: known.due.max(self.not_before),
        }
    }

    fn releases(&self, which: impl Fn(&Held) -> bool) -> Vec<Wanted<Effect>> {
        let held = self.held.iter().enumerate().filter(|(_, held)| which(held));
        held.map(|(part, held)| Wanted {
            id: EffectId(format!("release/{}", held.authorization)),
            effect: Effect::Release {
                part,
                owner: self.request.owner(&held.authorization),
                record: held.record.clone(),
            },
            from: None,
        })
        .collect()
    }
}
