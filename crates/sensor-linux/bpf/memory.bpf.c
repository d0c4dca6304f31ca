// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Processes that look into others or change them.
 */
#include "act.h"

SEC("tracepoint/syscalls/sys_enter_ptrace")
int enter_ptrace(struct enter_args *ctx)
{
	keep_call(ctx);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_ptrace")
int exit_ptrace(struct exit_args *ctx)
{
	struct record_space *s;
	struct call call;

	if (!take_call(&call))
		return 0;
	s = begin_act(ACT_PTRACE, COUNT_PROCESS_ACCESS);
	if (!s)
		return 0;
	s->act.numbers[0] = call.args[0];
	s->act.result = ctx->result < 0 ? (s32)ctx->result : 0;
	set_target(&s->act, (u32)call.args[1]);
	end_act(s, COUNT_PROCESS_ACCESS, false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
