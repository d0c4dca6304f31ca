// The API's types by the names that the console uses. They are generated: run
// `npm run generate` when ../schema/openapi.json has changed.
import type { components, operations } from './schema';

type Schemas = components['schemas'];

export type Account = Schemas['User'];
export type Alert = Schemas['Alert'];
export type AlertChange = Schemas['AlertChange'];
export type AlertDetail = Schemas['AlertDetail'];
export type AlertStatus = Schemas['AlertStatus'];
export type ApiToken = Schemas['ApiToken'];
export type AuditEntry = Schemas['AuditEntry'];
export type Behaviour = Schemas['Behaviour'];
export type Certificate = Schemas['CertificateInfo'];
export type CloseReason = Schemas['CloseReason'];
export type ContentCheck = Schemas['ContentCheck'];
export type ContentSummary = Schemas['ContentSummary'];
export type Dashboard = Schemas['Dashboard'];
export type Diagnostic = Schemas['RuleDiagnostic'];
export type EcsDocument = Schemas['EcsDocument'];
export type EnrollmentToken = Schemas['EnrollmentToken'];
export type ExceptionPreview = Schemas['ExceptionPreview'];
export type FieldDescription = Schemas['FieldDescription'];
export type Host = Schemas['Host'];
export type HostAccount = Schemas['HostAccount'];
export type IngestCounters = Schemas['IngestCounters'];
export type Keys = Schemas['Keys'];
export type Ledger = Schemas['Ledger'];
export type NewApiToken = Schemas['ApiTokenCreated'];
export type NewEnrollmentToken = Schemas['EnrollmentTokenCreated'];
/** An action that somebody ordered on a host. */
export type Order = Schemas['Response'];
export type OrderState = Schemas['ResponseState'];
/** A run of a playbook, as its responder tells it. */
export type PlaybookRun = Schemas['PlaybookRun'];
export type PlaybookRunState = Schemas['PlaybookRunState'];
export type PlaybookRunStep = Schemas['PlaybookRunStep'];
export type ProcessSummary = Schemas['AncestorProcess'];
export type ReceiptState = Schemas['ReceiptState'];
export type ResponseMode = Schemas['ResponseMode'];
export type ResponseReceipt = Schemas['AlertResponse'];
export type Role = Schemas['Role'];
export type Rule = Schemas['Rule'];
export type RuleCheck = Schemas['RuleCheck'];
export type RuleType = Schemas['RuleType'];
export type Settings = Schemas['Settings'];
export type Severity = Schemas['Severity'];
export type User = Schemas['SessionUser'];

/** The query parameters of an operation. */
export type QueryOf<Operation extends keyof operations> = NonNullable<operations[Operation]['parameters']['query']>;
