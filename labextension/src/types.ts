/** What verbs take and return, as JSON. Written by tools/typescript_types.py from the Python code: not by hand. */

/** A number, or the word for one that JSON does not have. */
export type Float = number | 'NaN' | 'Infinity' | '-Infinity';

/** A folder that is a project now: what was made, what was there and kept. */
export interface Initialised {
  readonly name: string;
  readonly folder: string;
  readonly tracking: string;
  readonly ledger: string;
  readonly made: readonly string[];
  readonly kept: readonly string[];
  readonly dry_run: boolean;
}

/** The project on one card; what needs attention stands first. */
export interface Status {
  readonly attention: readonly Attention[];
  readonly name: string;
  readonly root: string;
  readonly active_runs: readonly Run[];
  readonly champions: readonly Champion[];
  readonly endpoints: readonly EndpointRow[];
  readonly last_drift: LastDrift | null;
  readonly settings: readonly SettingRow[];
  readonly unsent: Unsent;
  readonly ahead: readonly Ahead[];
}

/** All checks, the worst first; `passed` when none failed. */
export interface Diagnosis {
  readonly passed: boolean;
  readonly checks: readonly AgentCheck[];
  readonly mended: readonly string[];
}

/** What `sync` delivered, what the stores refused, what is left and why, and which runs it gave their end. */
export interface Synced {
  readonly records: number;
  readonly files: number;
  readonly rejected: number;
  readonly refused: readonly Rejected[];
  readonly ended: readonly string[];
  readonly left: number;
  readonly why: string;
  readonly dry_run: boolean;
}

/** The panel at one of its views; `folder` is the project's, or where one could begin. */
export interface Panel {
  readonly view: string;
  readonly folder: string;
}

/** Whether a project's agent runs on this machine, and what it will start next. */
export interface AgentState {
  readonly status: string;
  readonly project: string;
  readonly pid: number | null;
  readonly since: string;
  readonly log: string;
  readonly upcoming: readonly Upcoming[];
  readonly dry_run: boolean;
}

/** One run of MLflow's, as nbmlops shows it. */
export interface Run {
  readonly run_id: string;
  readonly name: string;
  readonly status: string;
  readonly started_at: string | null;
  readonly duration_s: Float | null;
  readonly metrics: Readonly<Record<string, Float>>;
  readonly params: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  readonly experiment: string;
  readonly source: string;
  readonly commit: string;
  readonly parent_id: string;
  readonly user: string;
  readonly branch: string;
  readonly is_dirty: boolean | null;
  readonly attempt: number;
  readonly previous_id: string;
  readonly order: string;
  readonly error: string;
  readonly cell: string;
  readonly reproduced: string;
  readonly data: Readonly<Record<string, string>>;
  readonly code: string;
  readonly environment: string;
  readonly url: string;
  readonly curves: Readonly<Record<string, readonly Float[]>>;
  readonly steps: Readonly<Record<string, readonly number[]>>;
  readonly changes: readonly Difference[];
  readonly unsent: number;
}

/** What a call of `log` wrote, and to which run. */
export interface Logged {
  readonly run_id: string;
  readonly metrics: number;
  readonly params: number;
  readonly tags: number;
  readonly artifacts: number;
  readonly figures: number;
  readonly tables: number;
  readonly texts: number;
}

/** Whether fits of this process log themselves. */
export interface Autolog {
  readonly is_on: boolean;
}

/** What differs between runs, in the order in which they were named; what is equal is left out. */
export interface Comparison {
  readonly runs: readonly string[];
  readonly names: readonly string[];
  readonly differences: readonly Difference[];
  readonly equal: number;
}

/** What came of running a run again. */
export interface Reproduction {
  readonly run_id: string;
  readonly name: string;
  readonly reproduced: boolean | null;
  readonly basis: string;
  readonly commit: string;
  readonly tolerance: Float;
  readonly metrics: readonly MetricAgain[];
  readonly cause: string;
  readonly notes: readonly string[];
  readonly duration_s: Float | null;
}

/** One model version: where it came from, what points at it, what the gates said. */
export interface VersionCard {
  readonly model: string;
  readonly version: string;
  readonly aliases: readonly string[];
  readonly digest: string;
  readonly run_id: string;
  readonly registered_at: string;
  readonly history: readonly HistoryEntry[];
  readonly reports: readonly GateReport[];
}

/** One endpoint. */
export interface Endpoint {
  readonly name: string;
  readonly url: string;
  readonly model: string;
  readonly version: string;
  readonly status: string;
  readonly traffic: readonly Share[];
  readonly follows: string;
  readonly rollout: string;
  readonly since: string;
  readonly pids: readonly number[];
  readonly trouble: string;
  readonly refused: Readonly<Record<string, number>>;
  readonly progress: Progress | null;
}

/** A job, the cells of its notebook (ok, failed, running or pending), and the newest attempt at each of its steps. */
export interface JobInFull {
  readonly job: string;
  readonly name: string;
  readonly status: string;
  readonly began_at: string;
  readonly duration_s: Float;
  readonly cell: string;
  readonly message: string;
  readonly run_id: string;
  readonly output: string;
  readonly notebook: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly given: Readonly<Record<string, unknown>>;
  readonly owner: Readonly<Record<string, string>>;
  readonly resumed: string;
  readonly exit_code: number | null;
  readonly steps: readonly string[];
  readonly kind: string;
  readonly cells: readonly CellTiming[];
  readonly attempts: readonly JobStep[];
}

/** A pipeline's steps; `edges` lead from a step to one that needs it, without those that follow from others. */
export interface PipelineCard {
  readonly name: string;
  readonly nodes: readonly PipelineNode[];
  readonly edges: readonly (readonly [string, string])[];
}

/** What a gate found about exactly these bytes; `champion` is the version it was compared with, if any. */
export interface GateReport {
  readonly passed: boolean;
  readonly model: string;
  readonly version: string;
  readonly digest: string;
  readonly gate: string;
  readonly data: string;
  readonly champion: string;
  readonly n: number;
  readonly checks: readonly ValidationCheck[];
  readonly dry_run: boolean;
}

/** A model that became a version, with the manifest of its bytes: what the loader checks against for ever. */
export interface Registration {
  readonly name: string;
  readonly version: string;
  readonly alias: string;
  readonly previous: string;
  readonly digest: string;
  readonly manifest: readonly ManifestFile[];
  readonly source: string;
  readonly run_id: string;
  readonly signature: string;
  readonly trusted_types: readonly string[];
  readonly consented_types: readonly string[];
  readonly form: string;
  readonly why: string;
  readonly sha256: string;
  readonly dry_run: boolean;
}

/** One row of `models`: `gate` is the last gate report's outcome, about `judged`; `aliases` name versions. */
export interface RegisteredModel {
  readonly name: string;
  readonly version: string;
  readonly aliases: Readonly<Record<string, string>>;
  readonly gate: string;
  readonly judged: string;
  readonly updated_at: string | null;
}

/** One row of `models NAME`: `gate` is the outcome of the last gate report about exactly its bytes. */
export interface ListedVersion {
  readonly name: string;
  readonly version: string;
  readonly aliases: readonly string[];
  readonly gate: string;
  readonly judged_by: string;
  readonly judged_at: string | null;
  readonly n_failed: number;
  readonly registered_at: string | null;
  readonly run_id: string;
}

/** An alias that points at a version, the version before it, and the evidence; `moved` is False for a no-op. */
export interface Promotion {
  readonly name: string;
  readonly version: string;
  readonly alias: string;
  readonly previous: string;
  readonly moved: boolean;
  readonly evidence: Evidence | null;
  readonly reason: string;
  readonly switched: readonly string[];
  readonly dry_run: boolean;
}

/** An alias that points at the version before again; `previous` is the version it left. */
export interface Rollback {
  readonly name: string;
  readonly version: string;
  readonly alias: string;
  readonly previous: string;
  readonly reason: string;
  readonly switched: readonly string[];
  readonly ended: readonly string[];
  readonly mlflow_is_told: boolean;
  readonly dry_run: boolean;
}

/** One thing that was done, or tried, with a model. */
export interface HistoryEntry {
  readonly event: number;
  readonly at: string;
  readonly actor: string;
  readonly surface: string;
  readonly verb: string;
  readonly version: string;
  readonly outcome: string;
  readonly what: string;
  readonly reason: string;
}

/** A model whose bytes are those that were registered, or (with no `model`) a ledger whose chain is whole. */
export interface Verification {
  readonly model: string;
  readonly digest: string;
  readonly files: number;
  readonly events: number;
}

/** A model version that is live on an endpoint, or on its way; `replaced` is the version before it, empty if none. */
export interface Deployment {
  readonly endpoint: string;
  readonly url: string;
  readonly model: string;
  readonly version: string;
  readonly form: string;
  readonly replaced: string;
  readonly rollout: string;
  readonly state: string;
  readonly preflight: readonly ServingCheck[];
  readonly seconds: Float;
  readonly dry_run: boolean;
}

/** A model version at a target of MLflow's; `action` is `create` or `update`, `config` what the target was told. */
export interface TargetDeployment {
  readonly deployment: string;
  readonly target: string;
  readonly model: string;
  readonly version: string;
  readonly uri: string;
  readonly action: string;
  readonly flavor: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly dry_run: boolean;
}

/** What an endpoint answered for a table, one prediction a row, in the table's order. */
export interface Predictions {
  readonly endpoint: string;
  readonly model: string;
  readonly version: string;
  readonly n_rows: number;
  readonly seconds: Float;
  readonly rows_per_s: Float;
  readonly predictions: readonly unknown[];
  readonly output: string;
}

/** An endpoint's weights, as they were set. */
export interface Traffic {
  readonly endpoint: string;
  readonly weights: Readonly<Record<string, Float>>;
  readonly previous: Readonly<Record<string, Float>>;
  readonly dry_run: boolean;
}

/** What a candidate would have answered to captured requests, against what was answered. */
export interface Replay {
  readonly model: string;
  readonly against: string;
  readonly n: number;
  readonly n_unscored: number;
  readonly n_flipped: number | null;
  readonly flip_rate: Float | null;
  readonly lower: Float | null;
  readonly upper: Float | null;
  readonly n_slices: number;
  readonly slices: readonly SliceFlips[];
  readonly directions: readonly Direction[];
  readonly differences: Differences | null;
  readonly outcome: Outcome | null;
  readonly error: ErrorChange | null;
  readonly cost: CostChange | null;
  readonly endpoint: string;
  readonly since: string;
  readonly n_asked_again: number;
}

/** An endpoint that is no more. */
export interface Undeployment {
  readonly endpoint: string;
  readonly url: string;
  readonly model: string;
  readonly version: string;
  readonly dry_run: boolean;
}

/** How far each column of a table drifted from a reference, worst first. */
export interface DriftReport {
  readonly drifted: boolean;
  readonly current: string;
  readonly reference: string;
  readonly n_current: number;
  readonly n_reference: number;
  readonly n_drifted: number;
  readonly columns: readonly ColumnDrift[];
  readonly only_in_current: readonly string[];
  readonly only_in_reference: readonly string[];
}

/** The newest drift report about a table or an endpoint, and its event in the ledger; `by` asked for it. */
export interface DriftEntry {
  readonly event: number;
  readonly at: string;
  readonly by: string;
  readonly current: string;
  readonly reference: string;
  readonly drifted: boolean;
  readonly n_current: number;
  readonly n_reference: number;
  readonly n_drifted: number;
  readonly columns: readonly ColumnDrift[];
  readonly curves: Readonly<Record<string, readonly Float[]>>;
}

/** An alert: what it tells of, where to, and what was changed of it; `said` is what came back of a test. */
export interface AlertCard {
  readonly name: string;
  readonly on: readonly string[];
  readonly to: string;
  readonly private: boolean;
  readonly signed: boolean;
  readonly muted_until: string | null;
  readonly problem: string;
  readonly said: string;
  readonly agent: string;
  readonly deliveries: readonly DeliveryRow[];
  readonly changes: readonly Line[];
  readonly difference: string;
  readonly dry_run: boolean;
  readonly is_gone: boolean;
  readonly as_before: boolean;
}

/** An alert, as it is listed: `last` is what it has told last, or was to tell; `problem` why it cannot tell. */
export interface AlertRow {
  readonly name: string;
  readonly on: readonly string[];
  readonly to: string;
  readonly muted_until: string | null;
  readonly waiting: number;
  readonly last: string;
  readonly problem: string;
}

/** One parameter that a notebook declares. */
export interface Parameter {
  readonly name: string;
  readonly type: string;
  readonly default: unknown;
  readonly help: string;
  readonly choices: readonly unknown[];
  readonly is_required: boolean;
  readonly kind:
    | ''
    | 'text'
    | 'whole number'
    | 'number'
    | 'true/false'
    | 'choice'
    | 'date'
    | 'date and time'
    | 'time'
    | 'path'
    | 'secret'
    | 'list'
    | 'names and values'
    | 'any';
  readonly is_secret: boolean;
}

/** One headless run of a notebook; a dry run has status PLANNED and no run. */
export interface NotebookRun {
  readonly notebook: string;
  readonly output: string;
  readonly run_id: string;
  readonly status: string;
  readonly duration_s: Float;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly cells: readonly CellTiming[];
  readonly job: string;
  readonly results: Readonly<Record<string, unknown>>;
  readonly reason: string;
  readonly failure: PipelinesFailure | null;
}

/** A notebook over all combinations; FAILED when one of them is. */
export interface MatrixRun {
  readonly notebook: string;
  readonly status: string;
  readonly duration_s: Float;
  readonly runs: readonly Combination[];
}

/** One run of a pipeline, a job of the ledger; a dry run has status PLANNED and no job. */
export interface PipelineRun {
  readonly pipeline: string;
  readonly job: string;
  readonly status: string;
  readonly duration_s: Float;
  readonly due: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly steps: readonly StepRun[];
}

/** One headless run; status is RUNNING, FINISHED, SKIPPED, FAILED, KILLED, or LOST when its process is gone. */
export interface Job {
  readonly job: string;
  readonly name: string;
  readonly status: string;
  readonly began_at: string;
  readonly duration_s: Float;
  readonly cell: string;
  readonly message: string;
  readonly run_id: string;
  readonly output: string;
  readonly notebook: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly given: Readonly<Record<string, unknown>>;
  readonly owner: Readonly<Record<string, string>>;
  readonly resumed: string;
  readonly exit_code: number | null;
  readonly steps: readonly string[];
  readonly kind: string;
}

/** The results that were told; `is_kept` says whether a headless run takes them. */
export interface Told {
  readonly results: Readonly<Record<string, unknown>>;
  readonly is_kept: boolean;
}

/** The newest attempt at a step of a pipeline's job: RUNNING, or how it ended; `began_at` is aware, in UTC. */
export interface JobStep {
  readonly job: string;
  readonly pipeline: string;
  readonly step: string;
  readonly status: string;
  readonly began_at: string | null;
  readonly duration_s: Float;
  readonly attempt: number;
  readonly message: string;
  readonly run_id: string;
  readonly kind: string;
}

/** What runs next by itself: `next_at` is aware and in the schedule's zone, None without a clock or while paused. */
export interface Upcoming {
  readonly name: string;
  readonly target: string;
  readonly next_at: string | null;
  readonly paused: boolean;
  readonly schedule: string;
  readonly timezone: string;
  readonly triggers: readonly string[];
  readonly last: string;
  readonly problem: string;
  readonly kind: string;
}

/** A pipeline that nothing starts by itself: `run` does; `problem` is why it cannot be, as it is declared. */
export interface DeclaredPipeline {
  readonly name: string;
  readonly steps: readonly string[];
  readonly problem: string;
  readonly kind: string;
}

/** One firing, as it is listed: `cause` is the clock or a trigger; `due_at` and `ended_at` are aware, in UTC. */
export interface FiringRow {
  readonly schedule: string;
  readonly due_at: string;
  readonly cause: string;
  readonly state: string;
  readonly job: string;
  readonly ended_at: string | null;
  readonly exit_code: number | null;
  readonly reason: string;
  readonly kind: string;
}

/** An answer: to which step of which job, by whom, and why. */
export interface Decision {
  readonly job: string;
  readonly pipeline: string;
  readonly step: string;
  readonly is_approved: boolean;
  readonly by: string;
  readonly reason: string;
  readonly agent_goes_on: boolean;
}

/** What runs by itself, when next, and what of nbmlops.toml was changed for it; `agent` says who will start it. */
export interface ScheduleCard {
  readonly name: string;
  readonly target: string;
  readonly schedule: string;
  readonly timezone: string;
  readonly paused: boolean;
  readonly next: readonly FiringTime[];
  readonly triggers: readonly string[];
  readonly catchup: string;
  readonly overlap: string;
  readonly agent: string;
  readonly changes: readonly Line[];
  readonly difference: string;
  readonly dry_run: boolean;
  readonly as_before: boolean;
}

/** One thing that needs a person, and the command that mends it. */
export interface Attention {
  readonly what: string;
  readonly mend: string;
}

/** A version that an alias points at. */
export interface Champion {
  readonly model: string;
  readonly alias: string;
  readonly version: string;
  readonly gate: string;
}

/** An endpoint, and whether it answers. */
export interface EndpointRow {
  readonly name: string;
  readonly model: string;
  readonly url: string;
  readonly status: string;
}

/** The newest drift report. */
export interface LastDrift {
  readonly at: string;
  readonly drifted: boolean;
  readonly what: string;
}

/** One setting, where it came from, and for a store whether it answers. */
export interface SettingRow {
  readonly name: string;
  readonly value: string;
  readonly source: string;
  readonly status: string;
}

/** What waits in the journals; `since` is when the oldest of it was written, `why` the store's last trouble. */
export interface Unsent {
  readonly records: number;
  readonly files: number;
  readonly rejected: number;
  readonly since: string | null;
  readonly why: string;
}

/** Something that runs by itself: when next, in its own zone; what else starts it; how it went last. */
export interface Ahead {
  readonly name: string;
  readonly next: string;
  readonly triggers: string;
  readonly last: string;
  readonly problem: string;
}

/** One check of the doctor's: what was found, and what mends it. */
export interface AgentCheck {
  readonly name: string;
  readonly status: 'ok' | 'warn' | 'fail';
  readonly found: string;
  readonly mend: string;
}

/** A record that a store refused: what it was, why, which store that is, and the file that keeps it. */
export interface Rejected {
  readonly record: string;
  readonly reason: string;
  readonly store: string;
  readonly kept_in: string;
}

/** One metric, param, tag or fact in which runs differ; `gap` is last minus first, for numbers. */
export interface Difference {
  readonly kind: string;
  readonly name: string;
  readonly values: readonly unknown[];
  readonly gap: Float | null;
}

/** One metric of the run and of the run again; None where one has none. `gap` is relative, None without both. */
export interface MetricAgain {
  readonly name: string;
  readonly was: Float | null;
  readonly now: Float | null;
  readonly gap: Float | null;
  readonly status: string;
}

/** One version behind an endpoint: its share of the answers in percent, how it is served, and what it has done. */
export interface Share {
  readonly model: string;
  readonly version: string;
  readonly role: string;
  readonly weight: Float;
  readonly form: string;
  readonly n_requests: number;
  readonly n_errors: number;
  readonly latency_p99_ms: Float | null;
  readonly shift: Float | null;
}

/** How far a rollout is: at the step `step` of `steps`, counted from 0, with `weight` percent of the answers. */
export interface Progress {
  readonly state: string;
  readonly challenger: string;
  readonly champion: string;
  readonly strategy: string;
  readonly steps: readonly Float[];
  readonly step: number;
  readonly weight: Float;
  readonly bake_s: Float;
  readonly step_began_at: string;
  readonly slo: string;
  readonly promote: boolean;
  readonly reason: string;
}

/** How one code cell went; `index` counts the notebook's cells from 1, status is ok, failed or pending. */
export interface CellTiming {
  readonly index: number;
  readonly source_line: string;
  readonly seconds: Float;
  readonly status: string;
}

/** A step and its place in the drawing, counted from 0: `column` from the left, `row` from the top. */
export interface PipelineNode {
  readonly name: string;
  readonly kind: string;
  readonly target: string;
  readonly does: string;
  readonly needs: readonly string[];
  readonly column: number;
  readonly row: Float;
}

/** One line of a gate report. */
export interface ValidationCheck {
  readonly name: string;
  readonly condition: string;
  readonly value: Float;
  readonly limit: Float;
  readonly champion: Float | null;
  readonly lower: Float | null;
  readonly upper: Float | null;
  readonly n: number;
  readonly status: 'pass' | 'fail' | 'warn' | 'skip';
  readonly note: string;
}

/** One file of a model folder: its path inside the folder, SHA-256 in hex, and size. */
export interface ManifestFile {
  readonly path: string;
  readonly sha256: string;
  readonly size_bytes: number;
}

/** The gate report that allowed a promotion: its event in the ledger, its gate, the bytes it is about. */
export interface Evidence {
  readonly event: number;
  readonly gate: string;
  readonly digest: string;
}

/** One thing that was looked at before a version went live: `status` is `ok`, `warn` or `fail`. */
export interface ServingCheck {
  readonly name: string;
  readonly status: string;
  readonly what: string;
}

/** One slice in which decisions flip more, or less, often than elsewhere. */
export interface SliceFlips {
  readonly name: string;
  readonly column: string;
  readonly n: number;
  readonly n_flipped: number;
  readonly rate: Float;
  readonly lower: Float;
  readonly upper: Float;
  readonly p_value: Float;
  readonly status: 'higher' | 'lower';
}

/** Decisions that change in one way; `share` is of all rows. */
export interface Direction {
  readonly name: string;
  readonly before: string;
  readonly after: string;
  readonly n: number;
  readonly share: Float;
}

/** How candidate - before is distributed, in the prediction's unit. */
export interface Differences {
  readonly n: number;
  readonly mean: Float;
  readonly mean_absolute: Float;
  readonly deviation: Float;
  readonly p01: Float;
  readonly p05: Float;
  readonly p50: Float;
  readonly p95: Float;
  readonly p99: Float;
  readonly largest: Float;
}

/** How right the decisions are where the truth is known. */
export interface Outcome {
  readonly n: number;
  readonly accuracy_before: Float;
  readonly accuracy_after: Float;
  readonly gained: number;
  readonly lost: number;
  readonly change: Float;
  readonly lower: Float;
  readonly upper: Float;
  readonly p_value: Float;
  readonly status: 'better' | 'worse' | 'undecided';
}

/** The mean absolute error where the truth is known; `change` below 0 is better. */
export interface ErrorChange {
  readonly n: number;
  readonly before: Float;
  readonly after: Float;
  readonly change: Float;
  readonly lower: Float;
  readonly upper: Float;
  readonly status: 'better' | 'worse' | 'undecided';
}

/** What the candidate's decisions cost more (less: negative) than those before, a row, with its interval. */
export interface CostChange {
  readonly n: number;
  readonly before: Float;
  readonly after: Float;
  readonly change: Float;
  readonly lower: Float;
  readonly upper: Float;
  readonly status: 'better' | 'worse' | 'undecided';
}

/** How far one column of a table moved away from the reference. */
export interface ColumnDrift {
  readonly name: string;
  readonly drifted: boolean;
  readonly method: string;
  readonly statistic: Float | null;
  readonly p_value: Float | null;
  readonly psi: Float | null;
  readonly missing_reference: Float;
  readonly missing_current: Float;
  readonly summary: string;
  readonly reference: Float | string | null;
  readonly current: Float | string | null;
  readonly note: string;
}

/** A message of an alert: `state` is WAITING, SENDING, SENT, GIVEN_UP or MUTED, `said` what came back last. */
export interface DeliveryRow {
  readonly event: number;
  readonly what: string;
  readonly state: string;
  readonly attempts: number;
  readonly queued_at: string;
  readonly said: string;
}

/** One line of nbmlops.toml that comes (+) or goes (-). */
export interface Line {
  readonly line: string;
}

/** Why a run did not finish: the one cause that exit code, run, notebook, event and message name alike. */
export interface PipelinesFailure {
  readonly cause: string;
  readonly message: string;
  readonly cell: number | null;
  readonly count: number | null;
  readonly line: string;
  readonly source: string;
  readonly ename: string;
  readonly traceback: string;
}

/** One combination and how its run ended. */
export interface Combination {
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly status: string;
  readonly duration_s: Float;
  readonly run_id: string;
  readonly output: string;
  readonly message: string;
  readonly results: Readonly<Record<string, unknown>>;
}

/** What became of one instance of a step. */
export interface StepRun {
  readonly name: string;
  readonly verdict: string;
  readonly reason: string;
  readonly status: string;
  readonly seconds: Float;
  readonly run_id: string;
  readonly results: Readonly<Record<string, unknown>>;
  readonly attempts: number;
  readonly message: string;
}

/** One time at which a schedule fires: in its own zone, and in UTC. */
export interface FiringTime {
  readonly local: string;
  readonly utc: string;
  readonly at: string;
}

/** What each verb returns. */
export interface Results {
  readonly init: Initialised;
  readonly status: Status;
  readonly doctor: Diagnosis;
  readonly sync: Synced;
  readonly ui: Panel;
  readonly agent: AgentState;
  readonly export: unknown;
  readonly track: Run;
  readonly end: Run;
  readonly log: Logged;
  readonly autolog: Autolog;
  readonly runs: readonly Run[];
  readonly compare: Comparison;
  readonly reproduce: Reproduction;
  readonly show: Run | VersionCard | Endpoint | JobInFull | PipelineCard;
  readonly validate: GateReport;
  readonly register: Registration;
  readonly models: readonly RegisteredModel[] | readonly ListedVersion[];
  readonly promote: Promotion;
  readonly rollback: Rollback;
  readonly history: readonly HistoryEntry[];
  readonly verify: Verification;
  readonly deploy: Deployment | TargetDeployment;
  readonly endpoints: readonly Endpoint[];
  readonly predict: Predictions;
  readonly traffic: Traffic;
  readonly replay: Replay;
  readonly undeploy: Undeployment;
  readonly drift: DriftReport | readonly DriftEntry[];
  readonly alert: AlertCard | readonly AlertRow[];
  readonly params: readonly Parameter[] | Readonly<Record<string, unknown>>;
  readonly run: NotebookRun | MatrixRun | PipelineRun | Job;
  readonly result: Told;
  readonly skip: null;
  readonly jobs: readonly (Job | JobStep | Upcoming | DeclaredPipeline | FiringRow)[];
  readonly logs: string;
  readonly resume: NotebookRun | PipelineRun | Job;
  readonly approve: Decision;
  readonly reject: Decision;
  readonly cancel: Job;
  readonly schedule: ScheduleCard;
  readonly pause: ScheduleCard;
  readonly unpause: ScheduleCard;
  readonly unschedule: ScheduleCard;
}

/** The verbs of this version. */
export type VerbName = keyof Results;

/** One argument of a verb, or a part of its type, as JSON Schema. */
export interface Property {
  readonly additionalProperties?: boolean | Property;
  readonly anyOf?: readonly Property[];
  readonly default?: unknown;
  readonly description: string;
  readonly enum?: readonly string[];
  readonly items?: Property;
  readonly names?: string;
  readonly option: string | null;
  readonly title?: string;
  readonly type?: string;
}

/** What a verb takes, as JSON Schema. */
export interface VerbArguments {
  readonly properties: Readonly<Record<string, Property>>;
  readonly required?: readonly string[];
  readonly title: string;
  readonly type: 'object';
  readonly additionalProperties: false;
}

/** A verb: its place in the table, and what it takes. */
export interface VerbSchema {
  readonly name: VerbName;
  readonly summary: string;
  readonly effect: 'read' | 'write' | 'govern' | 'session';
  readonly group: string;
  readonly arguments: VerbArguments;
}

/** What stands under `error` in an answer that is no. */
export interface Failure {
  readonly type: string;
  readonly message: string;
  readonly hint: string;
  readonly exit_code: number;
  readonly cell?: string;
  readonly report?: unknown;
  readonly rule?: string;
}
