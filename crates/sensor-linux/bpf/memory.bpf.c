// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Processes that look into others or change them.
 */
#include "call.h"

#define PTRACE_PEEKTEXT 1
#define PTRACE_PEEKDATA 2
#define PTRACE_PEEKUSR 3
#define PTRACE_POKETEXT 4
#define PTRACE_POKEDATA 5
#define PTRACE_POKEUSR 6
#define PTRACE_GETREGS 12
#define PTRACE_SETREGS 13
#define PTRACE_GETFPREGS 14
#define PTRACE_SETFPREGS 15
#define PTRACE_ATTACH 16
#define PTRACE_GETREGSET 0x4204
#define PTRACE_SETREGSET 0x4205
#define PTRACE_SEIZE 0x4206

#define PR_SET_NAME 15
#define PR_SET_MM 35

/* A debugger reads and writes a thousand times a second. */
#define ACCESS_SPAN (10 * SECOND)
#define ATTACH_SPAN SECOND
#define PRCTL_SPAN (60 * SECOND)

/* Tells of an access to another process, or counts it with those like it. */
static __always_inline struct record_space *begin_access(u16 type, u32 count_as, u64 what, u64 span,
							 struct task_struct *target)
{
	struct task_struct *leader = own_leader();
	struct fold_key key = { .who = leader->start_boottime, .what = what };
	struct record_space *s;
	u64 count;

	if (target)
		key.whom = BPF_CORE_READ(target, start_boottime);
	count = fold(&key, span, count_as);
	if (!count)
		return 0;
	s = begin_acts(type, count_as, count);
	if (!s)
		return 0;
	s->act.numbers[COUNT_AT] = count;
	if (target)
		set_target_process(&s->act, target);
	return s;
}

SEC("tracepoint/syscalls/sys_exit_ptrace")
int exit_ptrace(struct exit_args *ctx)
{
	u32 request = call_argument(0), number = call_argument(1);
	u32 count_as = COUNT_PROCESS_ACCESS;
	u64 span = ACCESS_SPAN;
	struct record_space *s;

	switch (request) {
	case PTRACE_ATTACH:
	case PTRACE_SEIZE:
		span = ATTACH_SPAN;
		break;
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
	case PTRACE_PEEKUSR:
	case PTRACE_GETREGS:
	case PTRACE_GETFPREGS:
	case PTRACE_GETREGSET:
		break;
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
	case PTRACE_POKEUSR:
	case PTRACE_SETREGS:
	case PTRACE_SETFPREGS:
	case PTRACE_SETREGSET:
		count_as = COUNT_PROCESS_TAMPER;
		break;
	default:
		return 0;
	}
	s = begin_access(ACT_PTRACE, count_as, request | ((u64)is_error(ctx->result) << 32), span, find_process(number));
	if (!s)
		return 0;
	if (!s->act.target_pid)
		s->act.target_pid = number;
	s->act.numbers[0] = request;
	s->act.result = result_of(ctx->result);
	end_acts(s, count_as, s->act.numbers[COUNT_AT], false);
	return 0;
}

static __always_inline int process_vm(struct exit_args *ctx, u32 count_as)
{
	u32 number = call_argument(0);
	u64 remote[2] = {}, vectors = call_argument(3);
	struct task_struct *target = find_process(number);
	u64 what = (u64)ACT_PROCESS_VM << 40 | (u64)count_as << 32 | is_error(ctx->result);
	struct record_space *s;

	/* Reading one's own memory so is a way to be safe from bad pointers. */
	if (target == own_leader())
		return 0;
	s = begin_access(ACT_PROCESS_VM, count_as, what, ACCESS_SPAN, target);
	if (!s)
		return 0;
	if (!s->act.target_pid)
		s->act.target_pid = number;
	bpf_probe_read_user(remote, sizeof(remote), (void *)vectors);
	s->act.numbers[0] = remote[0];
	s->act.numbers[1] = ctx->result < 0 ? 0 : ctx->result;
	s->act.numbers[2] = count_as == COUNT_PROCESS_TAMPER;
	s->act.result = result_of(ctx->result);
	end_acts(s, count_as, s->act.numbers[COUNT_AT], false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_process_vm_readv")
int exit_vm_readv(struct exit_args *ctx)
{
	return process_vm(ctx, COUNT_PROCESS_ACCESS);
}

SEC("tracepoint/syscalls/sys_exit_process_vm_writev")
int exit_vm_writev(struct exit_args *ctx)
{
	return process_vm(ctx, COUNT_PROCESS_TAMPER);
}

SEC("tracepoint/syscalls/sys_exit_pidfd_getfd")
int exit_pidfd_getfd(struct exit_args *ctx)
{
	struct task_struct *target = process_of_pidfd(file_of(call_argument(0)));
	u64 what = (u64)ACT_PIDFD_GETFD << 40 | is_error(ctx->result);
	struct record_space *s;

	if (!target || target == own_leader())
		return 0;
	s = begin_access(ACT_PIDFD_GETFD, COUNT_PROCESS_ACCESS, what, SECOND, target);
	if (!s)
		return 0;
	s->act.numbers[0] = (u32)call_argument(1);
	s->act.result = result_of(ctx->result);
	end_acts(s, COUNT_PROCESS_ACCESS, s->act.numbers[COUNT_AT], false);
	return 0;
}

/* A short name as a number, as it stands in memory on a little-endian machine. */
#define NAME8(a, b, c, d, e, f, g, h) \
	((u64)a | (u64)b << 8 | (u64)c << 16 | (u64)d << 24 | (u64)e << 32 | (u64)f << 40 | (u64)g << 48 | (u64)h << 56)
#define NAME_MEM NAME8('m', 'e', 'm', 0, 0, 0, 0, 0)

static __always_inline bool tells_of_memory(u64 name)
{
	return name == NAME_MEM || name == NAME8('m', 'a', 'p', 's', 0, 0, 0, 0) ||
	       name == NAME8('s', 'm', 'a', 'p', 's', 0, 0, 0) || name == NAME8('e', 'n', 'v', 'i', 'r', 'o', 'n', 0) ||
	       name == NAME8('a', 'u', 'x', 'v', 0, 0, 0, 0) || name == NAME8('p', 'a', 'g', 'e', 'm', 'a', 'p', 0) ||
	       name == NAME8('s', 'y', 's', 'c', 'a', 'l', 'l', 0) || name == NAME8('s', 't', 'a', 'c', 'k', 0, 0, 0);
}

/* Every opening of a file comes along here, so what is not of /proc leaves first. */
static __always_inline int opened(struct exit_args *ctx)
{
	struct proc_inode *proc;
	struct task_struct *target;
	struct record_space *s;
	struct inode *inode;
	struct file *file;
	u32 count_as = COUNT_PROCESS_ACCESS;
	bool writes;
	u64 name = 0;

	if (ctx->result < 0)
		return 0;
	file = file_of(ctx->result);
	inode = LOOK(file, f_inode);
	if (LOOK(LOOK(inode, i_sb), s_magic) != PROC_SUPER_MAGIC)
		return 0;
	/* A longer name has no zero byte within the eight. */
	bpf_probe_read_kernel_str(&name, sizeof(name), BPF_CORE_READ(file, f_path.dentry, d_name.name));
	if (!tells_of_memory(name))
		return 0;
	proc = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	target = leader_of(BPF_CORE_READ(proc, pid));
	if (!target)
		return 0;
	writes = name == NAME_MEM && (BPF_CORE_READ(file, f_mode) & FMODE_WRITE);
	if (target == own_leader() && !writes)
		return 0;
	if (writes)
		count_as = COUNT_PROCESS_TAMPER;
	s = begin_access(ACT_PROC_OPEN, count_as, name ^ writes, ACCESS_SPAN, target);
	if (!s)
		return 0;
	s->act.numbers[0] = BPF_CORE_READ(file, f_mode);
	put_kernel_text(s, 0, BPF_CORE_READ(file, f_path.dentry, d_name.name), SHORT_SPACE);
	end_acts(s, count_as, s->act.numbers[COUNT_AT], false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat_proc(struct exit_args *ctx)
{
	return opened(ctx);
}

SEC("tracepoint/syscalls/sys_exit_openat2")
int exit_openat2_proc(struct exit_args *ctx)
{
	return opened(ctx);
}

SEC("tracepoint/syscalls/sys_exit_open")
int exit_open_proc(struct exit_args *ctx)
{
	return opened(ctx);
}

SEC("tracepoint/syscalls/sys_exit_prctl")
int exit_prctl(struct exit_args *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	u32 option = call_argument(0);
	struct record_space *s;

	if (option != PR_SET_NAME && option != PR_SET_MM)
		return 0;
	/* Names of threads are names; that of the main one is the process's. */
	if (option == PR_SET_NAME && task->pid != task->tgid)
		return 0;
	s = begin_access(ACT_PRCTL, COUNT_PROCESS_TAMPER, (u64)ACT_PRCTL << 40 | option, PRCTL_SPAN, task->group_leader);
	if (!s)
		return 0;
	s->act.numbers[0] = option;
	s->act.numbers[1] = call_argument(1);
	s->act.result = result_of(ctx->result);
	put_kernel_text(s, 0, task->comm, SHORT_SPACE);
	end_acts(s, COUNT_PROCESS_TAMPER, s->act.numbers[COUNT_AT], false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
