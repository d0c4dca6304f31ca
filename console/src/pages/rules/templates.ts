/** Where a new rule starts from; the user changes id, name and conditions. */
export interface RuleTemplate {
  id: 'process' | 'name' | 'encoded' | 'parent' | 'sigma';
  /** A native rule, or the text of another. */
  rule: object | string;
}

export const TEMPLATES: RuleTemplate[] = [
  {
    id: 'process',
    rule: {
      id: 'my-rule-1',
      name: '',
      description: '',
      type: 'process',
      severity: 'medium',
      enabled: true,
      conditions: ["path startswith '/tmp/' and not user = 'root'"],
      actions: ['alert', 'log'],
    },
  },
  {
    id: 'name',
    rule: {
      id: 1,
      name: '可疑进程名称',
      description: '检测常见的恶意软件进程名称',
      type: 'process',
      severity: 'high',
      enabled: true,
      conditions: ["name contains 'backdoor'", "name contains 'trojan'", "name contains 'keylogger'"],
      actions: ['alert', 'log', 'terminate_process'],
    },
  },
  {
    id: 'encoded',
    rule: {
      id: 101,
      name: 'PowerShell 编码命令',
      description: '检测使用编码命令的 PowerShell 执行',
      type: 'attack',
      severity: 'high',
      enabled: true,
      conditions: ["command matches 'powershell.*-[eE].*[Ee]ncoded[Cc]ommand'"],
      actions: ['alert', 'log', 'terminate_process'],
    },
  },
  {
    id: 'parent',
    rule: {
      id: 'web-server-shell',
      name: 'Shell started by a web server',
      description: 'A web server process started a command shell: a sign of a web shell or of remote code execution.',
      type: 'process',
      severity: 'high',
      enabled: true,
      match: 'all',
      conditions: ["parent in ('nginx', 'apache2', 'httpd', 'php-fpm')", "name in ('sh', 'bash', 'dash', 'zsh')"],
      actions: ['alert', 'log'],
      attack: ['T1505.003'],
    },
  },
  {
    id: 'sigma',
    rule: `title: ''
id: my-sigma-rule-1
description: ''
level: medium
tags:
  - attack.t1105
logsource:
  product: linux
  category: process_creation
detection:
  selection:
    Image|endswith:
      - /curl
      - /wget
    CommandLine|contains: ' -o /tmp/'
  condition: selection
`,
  },
];

export function templateText(id: string | undefined): string {
  const template = TEMPLATES.find((one) => one.id === id) ?? TEMPLATES[0];
  return typeof template?.rule === 'string' ? template.rule : `${JSON.stringify(template?.rule, null, 2)}\n`;
}
