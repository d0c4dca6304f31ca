export const common = {
  actions: '操作',
  all: '全部',
  cancel: '取消',
  clear: '清除',
  close: '关闭',
  copied: '已复制',
  copy: '复制',
  create: '创建',
  delete: '删除',
  loading: '加载中…',
  more: '显示更多',
  nothingMatches: '没有符合筛选条件的内容',
  pageNotFound: '页面不存在',
  refresh: '刷新',
  retry: '重试',
  save: '保存',
  showWhole: '显示全部',
  total: '共 {{total}}',
};

export const errors = {
  unreachable: '服务器没有响应。请检查连接后重试。',
  not_signed_in: '会话已结束，请重新登录。',
  wrong_password: '用户名或密码错误。',
  throttled: '尝试次数过多，请稍候再试。',
  busy: '服务器繁忙，请重试。',
  rule_refused: '规则有错误，未保存。',
};

export const nav = {
  main: '主导航',
  skip: '跳到内容',
  dashboard: '仪表板',
  alerts: '告警',
  events: '事件',
  hosts: '主机',
  responses: '响应',
  rules: '规则',
  content: '列表与文件',
  settings: '设置',
  theme: '主题',
  language: '切换到英文',
  account: '账户',
  changePassword: '修改密码',
  signOut: '退出登录',
  live: '实时',
  reconnecting: '正在重连…',
};

export const theme = { system: '跟随系统', light: '浅色', dark: '深色' };

export const shortcuts = {
  title: '键盘快捷键',
  goTo: '前往{{page}}',
  search: '在本页搜索',
  nextRow: '下一行',
  previousRow: '上一行',
  openRow: '打开所选行',
  close: '关闭对话框或面板',
  this: '显示快捷键',
};

export const severity = {
  critical: '严重',
  high: '高',
  medium: '中',
  low: '低',
  informational: '信息',
};

export const status = { new: '新告警', in_progress: '处理中', closed: '已关闭' };

export const closeReason = {
  true_positive: '确认攻击',
  false_positive: '误报',
  benign: '良性行为',
  duplicate: '重复',
};

export const mode = {
  off: '关闭',
  detect: '仅检测',
  shadow: '演练',
  ask: '需确认',
  auto: '自动响应',
};

export const action = {
  alert: '告警',
  log: '记录',
  terminate_process: '终止进程',
  quarantine_file: '隔离文件',
  block_connection: '阻止连接',
  kill_tree: '终止进程树',
  isolate_host: '隔离主机',
  collect_evidence: '收集证据',
};

export const receipt = {
  sent: '已发出',
  applied: '已执行',
  verified: '已验证',
  failed: '失败',
  refused: '已拒绝',
  approval_needed: '等待审批',
};

export const order = {
  action: {
    terminate_process: '终止进程',
    kill_tree: '终止进程树',
    suspend_process: '挂起进程',
    resume_process: '恢复进程',
    quarantine_file: '隔离文件',
    restore_file: '还原文件',
    delete_quarantined_file: '永久删除隔离文件',
    block_address: '阻止地址',
    unblock_address: '解除阻止地址',
    isolate_host: '隔离主机',
    release_host: '解除主机隔离',
    list_processes: '列出进程',
    list_connections: '列出连接',
    collect_evidence: '收集证据',
    delete_scheduled_task: '删除计划任务',
    delete_service: '删除服务',
    restore_service: '还原服务',
    stop_responses: '停止所有响应',
    allow_responses: '允许响应',
  },
  state: {
    pending: '等待审批',
    declined: '已否决',
    queued: '排队中',
    sent: '已发出',
    applied: '已执行',
    planned: '已计划',
    verified: '已验证',
    failed: '失败',
    refused: '已拒绝',
    approval_needed: '需要审批',
    cancelled: '已取消',
    expired: '已过期',
  },
};

export const role = {
  viewer: '只读用户',
  analyst: '分析员',
  responder: '响应员',
  playbook_runner: '剧本执行者',
  detection_engineer: '检测工程师',
  approver: '审批人',
  auditor: '审计员',
  administrator: '管理员',
};

export const roleHint = {
  viewer: '可查看主机、事件、告警和规则。',
  analyst: '可查看全部内容并处理告警。',
  responder: '可处理告警并对主机执行操作。',
  playbook_runner: '供响应程序的令牌使用：只能下达其剧本运行所需的动作。',
  detection_engineer: '可处理告警、修改规则及其响应模式。',
  approver: '可查看全部内容，并审批等待确认的操作。',
  auditor: '可查看全部内容和审计日志。',
  administrator: '可执行所有操作，包括用户和设置。',
};

export const ruleType = {
  process: '进程',
  network: '网络',
  file: '文件',
  registry: '注册表',
  attack: 'ATT&CK',
  event_log: '事件日志',
};

export const eventType = {
  process_start: '进程启动',
  process_exit: '进程退出',
  file_create: '文件创建',
  file_modify: '文件修改',
  file_delete: '文件删除',
  file_rename: '文件重命名',
  file_attribute: '文件属性更改',
  file_link: '创建链接',
  network_connect: '网络连接',
  network_accept: '接受连接',
  network_close: '连接关闭',
  network_listen: '监听端口',
  dns_query: 'DNS 查询',
  unix_connect: 'Unix 套接字连接',
  user_logon: '用户登录',
  user_logoff: '用户注销',
  user_logon_failed: '登录失败',
  account_create: '创建账户',
  account_modify: '修改账户',
  account_delete: '删除账户',
  registry_change: '注册表更改',
  event_log: '事件日志记录',
  scheduled_task: '计划任务',
  service: '服务',
  persistence: '持久化',
  script_content: '脚本内容',
  image_load: '加载库',
  module_load: '内核模块',
  bpf_load: 'BPF 程序',
  process_access: '访问进程',
  process_tamper: '篡改进程',
  memfd_create: '内存文件',
  signal: '信号',
  privilege_change: '权限变更',
  raw_access_read: '原始设备访问',
  mount: '挂载',
  namespace: '命名空间',
  container_start: '容器启动',
  execution_gate: '执行前拦截',
  pipe_create: '命名管道',
  usb_device: 'USB 设备',
  detection: '检测',
  response: '响应',
  agent_start: '代理启动',
  agent_stop: '代理停止',
  agent_health: '代理状态',
  agent_tamper: '代理被篡改',
  host_silent: '主机失联',
  file_scan: '文件扫描命中',
  gap: '数据缺口',
};

export const gapReason = {
  kernel_ring_full: '内核缓冲区已满',
  netlink_overflow: 'netlink 套接字溢出',
  process_gone: '进程在读取之前已退出',
  spool_full: '代理的本地队列已满',
  spool_write_failed: '代理磁盘写入失败',
  spool_corrupt: '本地队列中的批次已损坏',
  server_refused: '服务器永久拒绝了该批次或记录',
  agent_down: '代理未运行',
  kernel_skipped: '内核跳过了正在运行的探针程序',
  flood: '一条规则匹配过于频繁，仅生成了部分检测',
  malformed_record: '内核记录无法解析',
  queue_full: '代理内部队列已满',
  budget: '为保持在代理的 CPU 或内存预算内而略去',
};

export const range = {
  '15m': '最近 15 分钟',
  '1h': '最近 1 小时',
  '6h': '最近 6 小时',
  '24h': '最近 24 小时',
  '7d': '最近 7 天',
  '30d': '最近 30 天',
  custom: '自定义范围',
};
