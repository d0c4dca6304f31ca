// The API's closed lists of words, and what stands on many pages.

export const common = {
  actions: 'Actions',
  all: 'All',
  cancel: 'Cancel',
  clear: 'Clear',
  close: 'Close',
  copied: 'Copied',
  copy: 'Copy',
  create: 'Create',
  delete: 'Delete',
  loading: 'Loading…',
  more: 'Show more',
  nothingMatches: 'Nothing matches these filters',
  pageNotFound: 'There is no such page',
  refresh: 'Refresh',
  retry: 'Try again',
  save: 'Save',
  showWhole: 'Show all of it',
  total: '{{total}} in total',
};

export const errors = {
  unreachable: 'The server does not answer. Check the connection and try again.',
  not_signed_in: 'Your session has ended. Sign in again.',
  wrong_password: 'The user name or the password is wrong.',
  throttled: 'Too many attempts. Wait a moment and try again.',
  busy: 'The server is busy. Try again.',
  rule_refused: 'The rule has errors and was not saved.',
};

export const nav = {
  main: 'Main',
  skip: 'Skip to content',
  dashboard: 'Dashboard',
  alerts: 'Alerts',
  events: 'Events',
  hosts: 'Hosts',
  responses: 'Responses',
  rules: 'Rules',
  content: 'Lists and files',
  settings: 'Settings',
  theme: 'Theme',
  language: 'Switch to Chinese',
  account: 'Account',
  changePassword: 'Change password',
  signOut: 'Sign out',
  live: 'Live',
  reconnecting: 'Reconnecting…',
};

export const theme = { system: 'System', light: 'Light', dark: 'Dark' };

export const shortcuts = {
  title: 'Keyboard shortcuts',
  goTo: 'Go to {{page}}',
  search: 'Search on this page',
  nextRow: 'Next row',
  previousRow: 'Previous row',
  openRow: 'Open the row',
  close: 'Close a dialog or panel',
  this: 'Show these shortcuts',
};

export const severity = {
  critical: 'Critical',
  high: 'High',
  medium: 'Medium',
  low: 'Low',
  informational: 'Informational',
};

export const status = { new: 'New', in_progress: 'In progress', closed: 'Closed' };

export const closeReason = {
  true_positive: 'True positive',
  false_positive: 'False positive',
  benign: 'Benign',
  duplicate: 'Duplicate',
};

export const mode = {
  off: 'Off',
  detect: 'Detect',
  shadow: 'Shadow',
  ask: 'Ask',
  auto: 'Automatic',
};

export const action = {
  alert: 'Alert',
  log: 'Log',
  terminate_process: 'Terminate process',
  quarantine_file: 'Quarantine file',
  block_connection: 'Block connection',
  kill_tree: 'Kill process tree',
  isolate_host: 'Isolate host',
  collect_evidence: 'Collect evidence',
};

export const receipt = {
  sent: 'sent',
  applied: 'applied',
  verified: 'verified',
  failed: 'failed',
  refused: 'refused',
  approval_needed: 'approval needed',
};

export const order = {
  action: {
    terminate_process: 'Terminate process',
    kill_tree: 'Kill process tree',
    suspend_process: 'Suspend process',
    resume_process: 'Resume process',
    quarantine_file: 'Quarantine file',
    restore_file: 'Restore file',
    delete_quarantined_file: 'Delete quarantined file',
    block_address: 'Block address',
    unblock_address: 'Unblock address',
    isolate_host: 'Isolate host',
    release_host: 'Release host',
    list_processes: 'List processes',
    list_connections: 'List connections',
    collect_evidence: 'Collect evidence',
    delete_scheduled_task: 'Delete scheduled task',
    delete_service: 'Delete service',
    restore_service: 'Restore service',
    stop_responses: 'Stop all response',
    allow_responses: 'Allow response',
  },
  state: {
    pending: 'waits for approval',
    declined: 'declined',
    queued: 'queued',
    sent: 'sent',
    applied: 'applied',
    planned: 'planned',
    verified: 'verified',
    failed: 'failed',
    refused: 'refused',
    approval_needed: 'approval needed',
    cancelled: 'cancelled',
    expired: 'expired',
  },
};

export const role = {
  viewer: 'Viewer',
  analyst: 'Analyst',
  responder: 'Responder',
  playbook_runner: 'Playbook runner',
  detection_engineer: 'Detection engineer',
  approver: 'Approver',
  auditor: 'Auditor',
  administrator: 'Administrator',
};

export const roleHint = {
  viewer: 'Reads hosts, events, alerts and rules.',
  analyst: 'Reads everything and works on alerts.',
  responder: 'Works on alerts and acts on hosts.',
  playbook_runner: 'For the token of a responder: orders what its runs of playbooks need, and nothing else.',
  detection_engineer: 'Works on alerts and changes rules and their modes.',
  approver: 'Reads everything and decides on actions that wait for a yes.',
  auditor: 'Reads everything and the audit log.',
  administrator: 'May do everything, users and settings included.',
};

export const ruleType = {
  process: 'Process',
  network: 'Network',
  file: 'File',
  registry: 'Registry',
  attack: 'ATT&CK',
  event_log: 'Event log',
};

export const eventType = {
  process_start: 'Process start',
  process_exit: 'Process exit',
  file_create: 'File created',
  file_modify: 'File modified',
  file_delete: 'File deleted',
  file_rename: 'File renamed',
  file_attribute: 'File attributes',
  file_link: 'Link created',
  network_connect: 'Connection',
  network_accept: 'Connection accepted',
  network_close: 'Connection closed',
  network_listen: 'Listening socket',
  dns_query: 'DNS query',
  unix_connect: 'Unix socket',
  user_logon: 'Logon',
  user_logoff: 'Logoff',
  user_logon_failed: 'Logon failed',
  account_create: 'Account created',
  account_modify: 'Account changed',
  account_delete: 'Account deleted',
  registry_change: 'Registry changed',
  event_log: 'Event log record',
  scheduled_task: 'Scheduled task',
  service: 'Service',
  persistence: 'Persistence',
  script_content: 'Script',
  image_load: 'Library loaded',
  module_load: 'Kernel module',
  bpf_load: 'BPF program',
  process_access: 'Process access',
  process_tamper: 'Process tampering',
  memfd_create: 'File in memory',
  signal: 'Signal',
  privilege_change: 'Privilege change',
  raw_access_read: 'Raw access',
  mount: 'Mount',
  namespace: 'Namespace',
  container_start: 'Container start',
  execution_gate: 'Execution gate',
  pipe_create: 'Named pipe',
  usb_device: 'USB device',
  detection: 'Detection',
  response: 'Response',
  agent_start: 'Agent start',
  agent_stop: 'Agent stop',
  agent_health: 'Agent health',
  agent_tamper: 'Agent tampered with',
  host_silent: 'Silent host',
  file_scan: 'File scan',
  gap: 'Gap',
};

export const gapReason = {
  kernel_ring_full: "the kernel's buffer was full",
  netlink_overflow: 'a netlink socket overflowed',
  process_gone: 'the process was gone before it could be read',
  spool_full: "the agent's spool was full",
  spool_write_failed: "the agent's disk refused a write",
  spool_corrupt: 'a spooled batch was damaged',
  server_refused: 'the server refused a batch or a record for good',
  agent_down: 'the agent was not running',
  kernel_skipped: 'the kernel skipped a program that was running already',
  flood: 'one rule matched so often that only some detections were made',
  malformed_record: 'the kernel handed over an unreadable record',
  queue_full: 'a queue inside the agent was full',
  budget: "left out to stay within the agent's CPU or memory budget",
};

export const range = {
  '15m': 'Last 15 minutes',
  '1h': 'Last hour',
  '6h': 'Last 6 hours',
  '24h': 'Last 24 hours',
  '7d': 'Last 7 days',
  '30d': 'Last 30 days',
  custom: 'From – to',
};
