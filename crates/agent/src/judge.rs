//! From an event to verdicts, and from a verdict to the act.

mod gate;
mod orders;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;

use event_model::{
    ActionKind, BlockedBy, Detection, DetectionId, EventBody, EventHeader, EventId, EventRecord, EventType,
    Field, FieldSource, Process, ProcessEntityId, ProcessSummary, ReceiptState, ReceiptStep, ResponseMode,
    ResponseReceipt, ResponseTarget, RuleId, RuleReference, Severity, Timestamp, ValueRef,
};
use file_scan::YaraMatch;
use response::{Asked, Guards, Order, Origin, Plan, Target, Terminator};
use rule_engine::{BehaviourEngine, Phase, RuleHead};
use uuid::Uuid;

use crate::anomaly::Anomalies;
use crate::flood::{Flood, Withheld};
use crate::indicator_book::ActiveIndicators;
use crate::indicator_match::IndicatorHit;
use crate::pipeline::describe_string;
use crate::responding::Responding;
use crate::rules::ActiveRules;
use crate::run_state::Caution;

use self::orders::{MOST_ASKED, action_of, told};

/// What a rule ordered and was not begun by then is not done any more: ten minutes.
const RULE_ORDER_LIFE_NS: i64 = 600_000_000_000;

/// The built-in rule that tells of whoever touches the agent.
pub const TAMPER_RULE: &str = "rampart.tamper";

/// What stands in the place of a rule's id where the block list matched.
const BLOCK_LIST: &str = "rampart.block_list";

/// The same for a receipt that is made again after a crash.
fn receipt_id(detection_id: DetectionId, action: ActionKind) -> Uuid {
    let mut place = detection_id.as_bytes().to_vec();
    place.extend_from_slice(action.as_str().as_bytes());
    Uuid::new_v5(detection_id.as_uuid(), &place)
}

/// An event that has its number but is not a record yet, as rules see it.
pub struct Numbered<'a> {
    /// Place and time.
    pub header: &'a EventHeader,
    /// Content.
    pub body: &'a EventBody,
}

impl FieldSource for Numbered<'_> {
    fn event_type(&self) -> EventType {
        self.body.event_type()
    }

    fn observed_at(&self) -> Timestamp {
        self.header.observed_at
    }

    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        self.body.value(field)
    }

    fn entity(&self, field: Field) -> Option<ProcessEntityId> {
        self.body.entity(field)
    }
}

/// One rule matched.
#[derive(Debug)]
pub struct Verdict {
    id: DetectionId,
    rule: RuleReference,
    matched: Vec<String>,
    actions: Vec<ActionKind>,
    condemns: bool,
}

impl Verdict {
    /// Its detection's id.
    pub fn id(&self) -> DetectionId {
        self.id
    }

    /// Whether the process is being ended for it: asked for, and no guard rail stood against it.
    pub fn condemns(&self) -> bool {
        self.condemns
    }

    /// The detection, now that the event is a record.
    pub fn detection(self, event: &EventRecord, ancestry: Vec<ProcessSummary>) -> Detection {
        let Self { id, rule, matched, actions, condemns: _ } = self;
        Detection { id, rule, event: event.clone(), ancestry, matched, actions }
    }
}

/// Whoever touches the agent is told of, whatever the rules are.
fn tamper_verdict(event_id: EventId) -> Verdict {
    let rule = RuleReference {
        id: RuleId::new(TAMPER_RULE),
        name: "Agent tampered with".to_owned(),
        description:
            "Somebody signalled the agent, touched its program, unit, configuration, rules, state or kernel side, \
                      let an isolated host go on the spot, or sent it a command that is not its server's."
                .to_owned(),
        severity: Severity::Critical,
        attack: vec!["T1562.001".to_owned()],
        mode: ResponseMode::Detect,
    };
    let id = DetectionId::of_match(event_id, &rule.id);
    let actions = vec![ActionKind::Alert];
    Verdict { id, rule, matched: vec!["built in".to_owned()], actions, condemns: false }
}

/// What a finding about a process tree or a habit is to be told as. Such findings only report.
fn finding_verdict(event_id: EventId, rule: RuleReference, matched: Vec<String>) -> Verdict {
    let id = DetectionId::of_match(event_id, &rule.id);
    Verdict { id, rule, matched, actions: vec![ActionKind::Alert], condemns: false }
}

/// The block list as a rule, and what of it matched.
pub(crate) fn block_list_rule(by: BlockedBy) -> (RuleReference, Vec<String>) {
    let rule = RuleReference {
        id: RuleId::new(BLOCK_LIST),
        name: "Program on the block list".to_owned(),
        description: "The operator's block list says that this program may not run on this host.".to_owned(),
        severity: Severity::High,
        attack: Vec::new(),
        mode: ResponseMode::Auto,
    };
    (rule, vec![format!("the program's {by} is on the block list")])
}

/// An indicator is told of; what is to be done about it, a person or a playbook decides.
fn indicator_verdict(event_id: EventId, hit: &IndicatorHit) -> Verdict {
    let rule = RuleReference {
        id: RuleId::new(hit.rule_id()),
        name: hit.name(),
        description: hit.description(),
        severity: hit.severity(),
        attack: Vec::new(),
        mode: ResponseMode::Detect,
    };
    let id = DetectionId::of_match(event_id, &rule.id);
    Verdict { id, rule, matched: hit.matched(), actions: vec![ActionKind::Alert], condemns: false }
}

/// How bad a match is whose YARA rule does not say: such rules describe malware.
const YARA_SEVERITY: Severity = Severity::High;

/// Judges events, and acts where a rule says so.
pub struct Judge {
    guards: Guards,
    terminator: Terminator,
    receipts: mpsc::Receiver<ResponseReceipt>,
    own_receipts: mpsc::Sender<ResponseReceipt>,
    caution: Caution,
    rules: Arc<ActiveRules>,
    indicators: Arc<ActiveIndicators>,
    clock: response::Clock,
    responding: Option<Responding>,
    behaviour: BehaviourEngine,
    anomalies: Option<Anomalies>,
    flood: Flood,
}

impl Judge {
    /// A judge without rules.
    ///
    /// # Errors
    /// If the response can't start its thread.
    pub fn new(
        processes: Arc<dyn sensor_api::ProcessClock>,
        clock: response::Clock,
        caution: Caution,
    ) -> std::io::Result<Self> {
        let (own_receipts, receipts) = mpsc::channel();
        let terminator = Terminator::new(processes, clock.clone(), own_receipts.clone())?;
        let (guards, rules, indicators) = (Guards::of_this_host(), Arc::default(), Arc::default());
        Ok(Self {
            guards,
            terminator,
            receipts,
            own_receipts,
            caution,
            rules,
            indicators,
            behaviour: BehaviourEngine::default(),
            anomalies: None,
            flood: Flood::default(),
            clock,
            responding: None,
        })
    }

    /// Hands all actions but the ending of single processes to this thread.
    pub fn respond_with(&mut self, responding: Responding) {
        self.responding = Some(responding);
    }

    /// These programs are protected too.
    pub fn protect(&mut self, programs: impl IntoIterator<Item = PathBuf>) {
        self.guards.protect(programs);
    }

    /// Tells what is unusual on this host, too.
    pub fn watch_habits(&mut self, anomalies: Anomalies) {
        self.anomalies = Some(anomalies);
    }

    /// Judges by these rules from now on. What process trees did before stays known.
    pub fn use_rules(&mut self, rules: Arc<ActiveRules>) {
        self.behaviour.replace(Arc::clone(rules.set.behaviours()));
        self.rules = rules;
    }

    /// What had to be forgotten because a table was full, as `what=count`.
    pub fn forgotten(&self) -> Vec<String> {
        let trees = self.behaviour.counters();
        let habits = self.anomalies.as_ref().map(Anomalies::counters);
        let counted = [
            ("behaviour_processes", trees.evicted_processes),
            ("behaviour_scores", trees.evicted_scores),
            ("behaviour_evidence", trees.evicted_evidence),
            ("anomaly_entries", habits.map_or(0, |habits| habits.evicted)),
            ("correlation_matches", self.rules.set.correlation_counters().evicted),
        ];
        let some = counted.into_iter().filter(|(_, count)| *count > 0);
        some.map(|(what, count)| format!("{what}={count}")).collect()
    }

    /// The rules in use.
    pub fn rules(&self) -> &Arc<ActiveRules> {
        &self.rules
    }

    /// Looks things up in these indicators from now on.
    pub fn use_indicators(&mut self, indicators: Arc<ActiveIndicators>) {
        self.indicators = indicators;
    }

    /// Whether a start can't be judged to the end without its image's hash.
    pub fn needs_hash(&self) -> bool {
        self.rules.needs_hash() || self.indicators.has_hashes()
    }

    /// Judges one event in one phase. Where a rule acts, the first signal is sent before this returns.
    pub fn judge(&mut self, event: &Numbered<'_>, phase: Phase) -> Vec<Verdict> {
        let rules = Arc::clone(&self.rules);
        let found = rules.set.verdicts(event, phase);
        let actor = event.body.actor();
        let event_id = || event.header.event_id();
        // What a rule does comes before all else that the event means: the process runs on meanwhile.
        let mut acted = Vec::with_capacity(found.matches.len());
        for one in &found.matches {
            let actor = actor.filter(|_| one.rule.mode != ResponseMode::Detect);
            acted.push(actor.map(|actor| {
                let id = DetectionId::of_match(event_id(), &one.rule.id);
                self.respond(id, one.rule, event, &actor.into())
            }));
        }
        let tampered = event.body.event_type() == EventType::AgentTamper && phase != Phase::HashOnly;
        let hits = self.indicators.look_up(event, phase);
        let findings = self.behaviour.observe(event, phase, &found);
        let matches = found.matches;
        if matches.is_empty() && findings.is_empty() && hits.is_empty() && !tampered {
            return Vec::new();
        }
        let event_id = event_id();
        let expected = matches.len() + findings.len() + hits.len() + usize::from(tampered);
        let mut verdicts = Vec::with_capacity(expected);
        verdicts.extend(tampered.then(|| tamper_verdict(event_id)));
        let program = event.value(Field::ProcessExecutable);
        let program = match &program {
            Some(ValueRef::Text(path)) => path,
            _ => "",
        };
        let at_ns = event.header.monotonic_ns;
        for hit in &hits {
            if self.flood.lets_through(&hit.rule_id(), program, at_ns) {
                verdicts.push(indicator_verdict(event_id, hit));
            }
        }
        for (one, acted) in matches.into_iter().zip(acted) {
            // What a rule does must have its detection.
            if acted.is_none() && !self.flood.lets_through(one.rule.id.as_str(), program, at_ns) {
                continue;
            }
            let id = DetectionId::of_match(event_id, &one.rule.id);
            let condemns = acted == Some(true);
            let matched = one.matched.into_iter().map(str::to_owned).collect();
            let actions = one.rule.actions.clone();
            verdicts.push(Verdict { id, rule: one.rule.reference(), matched, actions, condemns });
        }
        verdicts.extend(findings.into_iter().map(|it| finding_verdict(event_id, it.rule, it.matched)));
        verdicts
    }

    /// Detections that were not made because there were too many of them.
    pub fn take_withheld(&mut self) -> Option<Withheld> {
        self.flood.take_withheld()
    }

    /// The verdict of a YARA rule on a file. It is told of; rules on the event may do more.
    pub fn yara_verdict(&self, header: &EventHeader, found: &YaraMatch) -> Verdict {
        let place = format!("{}/{}", found.namespace, found.rule);
        let description = found.description().unwrap_or("The file matches this YARA rule.");
        let reference = found.reference().map(|reference| format!(" ({reference})")).unwrap_or_default();
        let rule = RuleReference {
            id: RuleId::new(format!("yara.{place}")),
            name: format!("YARA: {}", found.rule),
            description: format!("{description}{reference}"),
            severity: found.severity().unwrap_or(YARA_SEVERITY),
            attack: found.attack(),
            mode: ResponseMode::Detect,
        };
        let mut matched: Vec<String> = found.strings.iter().map(describe_string).collect();
        if matched.is_empty() {
            matched.push("the rule's condition, which needs no string".to_owned());
        }
        let id = DetectionId::of_match(header.event_id(), &rule.id);
        Verdict { id, rule, matched, actions: vec![ActionKind::Alert], condemns: false }
    }

    /// What is unusual about an event that was judged and is in its final form.
    pub fn notice(&mut self, event: &Numbered<'_>) -> Vec<Verdict> {
        let Some(anomalies) = &mut self.anomalies else { return Vec::new() };
        let found = anomalies.notice(event).into_iter();
        found.map(|it| finding_verdict(event.header.event_id(), it.rule, it.matched)).collect()
    }

    /// Has what was learnt written where it is due; at the end in any case.
    pub fn keep_habits(&mut self, ends: bool) {
        match &mut self.anomalies {
            Some(anomalies) if ends => anomalies.finish(),
            Some(anomalies) => anomalies.save_if_due(),
            None => {}
        }
    }

    /// Ends a process that a condemned one forked, by force: forking on is how a program
    /// outlives the grace that its parent had.
    pub fn pursue(&mut self, condemned_by: DetectionId, target: &Target) {
        if self.caution == Caution::SafeMode || self.is_stopped() {
            return;
        }
        // Every hunt has a budget of its own: the forks must not use up what the rule has for others.
        let rule_id = RuleId::new(format!("forks of {}", condemned_by.as_uuid()));
        let (target, grace) = (target.clone(), std::time::Duration::ZERO);
        let plan = Plan { detection_id: condemned_by, rule_id, target, grace };
        match self.guards.authorise(plan, ResponseMode::Auto) {
            Ok(authorised) => self.terminator.act(authorised),
            Err(refused) => self.tell(refused.1),
        }
    }

    /// The verdict on a process that is on the block list. Where the kernel has not ended it
    /// already, it is ended here, and the receipt comes like any other.
    pub fn block(&mut self, header: &EventHeader, by: BlockedBy, to_end: Option<&Process>) -> Verdict {
        let rule_id = RuleId::new(BLOCK_LIST);
        let id = DetectionId::of_match(header.event_id(), &rule_id);
        let mut condemns = false;
        if let Some(target) = to_end.filter(|_| self.caution != Caution::SafeMode && !self.is_stopped()) {
            let (target, grace) = (target.into(), std::time::Duration::ZERO);
            let plan = Plan { detection_id: id, rule_id: rule_id.clone(), target, grace };
            match self.guards.authorise(plan, ResponseMode::Auto) {
                Ok(authorised) => {
                    self.terminator.act(authorised);
                    condemns = true;
                }
                Err(refused) => self.tell(refused.1),
            }
        }
        let (rule, matched) = block_list_rule(by);
        Verdict {
            id,
            rule,
            matched,
            actions: vec![ActionKind::Alert, ActionKind::TerminateProcess],
            condemns,
        }
    }

    /// The receipt of a process that the kernel was to end at its exec: its end is the proof.
    pub fn prove_block(
        &self,
        detection_id: DetectionId,
        target: &Target,
        begun: Timestamp,
        end: (Timestamp, Option<u32>),
    ) {
        let action = ActionKind::TerminateProcess;
        let (ended_at, wait_status) = end;
        let killed = wait_status.is_some_and(|status| status & 0x7f == 9);
        let step = |at, what: &str| ReceiptStep { at, what: what.to_owned() };
        let (state, reason) = if killed {
            (
                ReceiptState::Verified,
                "the kernel ended it at its exec, and reported its end by SIGKILL".to_owned(),
            )
        } else {
            let status = wait_status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
            (ReceiptState::Failed, format!("it ended with wait status {status} and not by SIGKILL"))
        };
        self.tell(ResponseReceipt {
            asks: None,
            id: receipt_id(detection_id, action),
            detection_id,
            action,
            target: ResponseTarget { entity_id: target.entity_id, executable: target.executable.clone() },
            state,
            reason,
            steps: vec![step(begun, "sent SIGKILL in the kernel"), step(ended_at, "the process ended")],
        });
    }

    /// Whether a file is protected, so that it never comes to the block list.
    pub fn protects_image(&self, device: u64, inode: u64) -> bool {
        self.guards.protects_image(device, inode)
    }

    /// Receipts that came in since the last call.
    pub fn receipts(&self) -> impl Iterator<Item = ResponseReceipt> {
        self.receipts.try_iter()
    }

    /// Looks again which services are protected.
    pub fn refresh_guards(&mut self) {
        self.guards.refresh();
    }

    /// Waits for receipts of what was begun, for a clean stop.
    pub fn finish(&self, limit: std::time::Duration) {
        self.terminator.finish(limit);
    }

    /// Does what the rule asks for; true if the target is being ended.
    fn respond(
        &mut self,
        detection_id: DetectionId,
        rule: &RuleHead,
        event: &Numbered<'_>,
        target: &Target,
    ) -> bool {
        if !matches!(rule.mode, ResponseMode::Shadow | ResponseMode::Ask | ResponseMode::Auto) {
            return false;
        }
        let mut condemned = false;
        for &action in &rule.actions {
            match action {
                ActionKind::Alert | ActionKind::Log => {}
                _ if self.caution == Caution::SafeMode => {
                    let reason = "the agent is in safe mode after repeated crashes, it does not act";
                    self.refuse(detection_id, action, target, reason.to_owned());
                }
                _ if self.is_stopped() => {
                    let reason = "all response is stopped on this host";
                    self.refuse(detection_id, action, target, reason.to_owned());
                }
                ActionKind::TerminateProcess if rule.mode != ResponseMode::Ask => {
                    let (rule_id, target, grace) = (rule.id.clone(), target.clone(), rule.terminate_grace);
                    let plan = Plan { detection_id, rule_id, target, grace };
                    match self.guards.authorise(plan, rule.mode) {
                        Ok(authorised) => {
                            self.terminator.act(authorised);
                            condemned = true;
                        }
                        Err(refused) => self.tell(refused.1),
                    }
                }
                _ => condemned |= self.order(detection_id, rule, action, event, target),
            }
        }
        condemned
    }

    fn is_stopped(&self) -> bool {
        self.responding.as_ref().is_some_and(|responding| responding.switch().is_stopped())
    }

    /// Hands an action to the responding thread; true if the target is to be ended by it.
    fn order(
        &self,
        detection_id: DetectionId,
        rule: &RuleHead,
        kind: ActionKind,
        event: &Numbered<'_>,
        target: &Target,
    ) -> bool {
        let Some(responding) = &self.responding else {
            let reason = format!("`{kind}` is not available: the agent has no folder to work in");
            self.refuse(detection_id, kind, target, reason);
            return false;
        };
        let action = match action_of(kind, event, target) {
            Ok(action) => action,
            Err(reason) => {
                self.refuse(detection_id, kind, target, reason);
                return false;
            }
        };
        let order = Order {
            id: response::order_id(detection_id, &action),
            action,
            origin: Origin::Rule { rule_id: rule.id.clone(), detection_id, mode: rule.mode },
            dry_run: false,
            expires_at: Timestamp::from_nanos((self.clock)().as_nanos().saturating_add(RULE_ORDER_LIFE_NS)),
        };
        let asked = Asked { rule_id: rule.id.clone(), action: order.action.clone() };
        let (entity_id, executable) = (target.entity_id, target.executable.clone());
        let receipts = self.own_receipts.clone();
        responding.order(order, move |receipt| {
            let (state, reason) = told(&receipt);
            // What was not even looked at can't be approved either.
            let is_asked = state == ReceiptState::ApprovalNeeded && !receipt.plan.is_empty();
            let asks = is_asked.then(|| serde_json::to_string(&asked).ok()).flatten();
            let asks = asks.filter(|text| text.len() <= MOST_ASKED);
            let told = ResponseReceipt {
                asks,
                id: receipt_id(detection_id, kind),
                detection_id,
                action: kind,
                target: ResponseTarget { entity_id, executable },
                state,
                reason,
                steps: receipt.steps,
            };
            // The pipeline is gone only when the agent ends.
            let _ = receipts.send(told);
        });
        kind == ActionKind::KillTree && rule.mode == ResponseMode::Auto
    }

    fn refuse(&self, detection_id: DetectionId, action: ActionKind, target: &Target, reason: String) {
        self.tell(ResponseReceipt {
            asks: None,
            id: receipt_id(detection_id, action),
            detection_id,
            action,
            target: ResponseTarget { entity_id: target.entity_id, executable: target.executable.clone() },
            state: ReceiptState::Refused,
            reason,
            steps: Vec::new(),
        });
    }

    fn tell(&self, receipt: ResponseReceipt) {
        // The receiver is a field of this very value.
        let _ = self.own_receipts.send(receipt);
    }
}
