// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Signals from one process to another.
 *
 * signal_generate also comes from interrupts, so its record may not be put
 * together while another program of this object is: what it lets through is sent
 * by a system call of the current process, and the others run at the ends of those.
 */
#include "call.h"

#define EPERM 1
#define SIGCHLD 17
#define STACK_SPACE 65536
#define BIT(signal) (1ull << (signal))

/* SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGSEGV SIGTERM
 * SIGCONT SIGSTOP SIGTSTP SIGSYS: what ends, stops or revives. The numbers are the
 * same on x86 and arm64. */
#define WATCHED \
	(BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(11) | BIT(15) | BIT(18) | \
	 BIT(19) | BIT(20) | BIT(31))

static __always_inline int tell_signal(u32 signal, u32 pid, u64 start_ns, s32 result)
{
	struct task_struct *own = own_leader();
	struct fold_key key = {
		.who = own->start_boottime,
		.whom = start_ns,
		.what = (u64)ACT_SIGNAL << 40 | (u64)(result != 0) << 32 | signal,
	};
	bool to_agent = is_agents(pid, start_ns);
	struct record_space *s;
	u64 count;

	if (!signal || signal > 64 || (pid == (u32)own->tgid && start_ns == own->start_boottime))
		return 0;
	if (!to_agent && (signal > 63 || !(WATCHED & BIT(signal))))
		return 0;
	count = fold(&key, SECOND, COUNT_SIGNAL);
	if (!count)
		return 0;
	s = begin_acts(ACT_SIGNAL, COUNT_SIGNAL, count);
	if (!s)
		return 0;
	s->act.target_pid = pid;
	s->act.target_start_ns = start_ns;
	s->act.numbers[0] = signal;
	s->act.numbers[COUNT_AT] = count;
	s->act.result = result;
	end_acts(s, COUNT_SIGNAL, count, to_agent);
	return 0;
}

SEC("tp_btf/signal_generate")
int on_signal(u64 *ctx)
{
	u32 signal = (u32)ctx[0];
	u64 info = ctx[1];
	struct task_struct *target = (void *)ctx[2];
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct kernel_siginfo *from = (void *)info;

	/* Each child's end sends one, and it does nothing to anybody. */
	if (signal == SIGCHLD)
		return 0;
	/* What calls send has its origin on the stack of the caller: what the kernel
	 * sends by itself has none, and a timer's lies elsewhere. */
	if (info - (u64)task->stack >= STACK_SPACE || LOOK(from, si_code) > 0)
		return 0;
	target = target->group_leader;
	return tell_signal(signal, target->tgid, target->start_boottime, 0);
}

/* What was refused did not become a signal. */
static __always_inline int refused(struct exit_args *ctx, struct task_struct *target, u32 signal)
{
	if (ctx->result != -EPERM || !target)
		return 0;
	return tell_signal(signal, BPF_CORE_READ(target, tgid), BPF_CORE_READ(target, start_boottime), -EPERM);
}

SEC("tracepoint/syscalls/sys_exit_kill")
int exit_kill(struct exit_args *ctx)
{
	if (ctx->result != -EPERM || (s32)call_argument(0) <= 0)
		return 0;
	return refused(ctx, find_process(call_argument(0)), call_argument(1));
}

SEC("tracepoint/syscalls/sys_exit_tkill")
int exit_tkill(struct exit_args *ctx)
{
	if (ctx->result != -EPERM)
		return 0;
	return refused(ctx, find_process(call_argument(0)), call_argument(1));
}

SEC("tracepoint/syscalls/sys_exit_tgkill")
int exit_tgkill(struct exit_args *ctx)
{
	if (ctx->result != -EPERM)
		return 0;
	return refused(ctx, find_process(call_argument(1)), call_argument(2));
}

SEC("tracepoint/syscalls/sys_exit_pidfd_send_signal")
int exit_pidfd_send_signal(struct exit_args *ctx)
{
	if (ctx->result != -EPERM)
		return 0;
	return refused(ctx, process_of_pidfd(file_of(call_argument(0))), call_argument(1));
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
