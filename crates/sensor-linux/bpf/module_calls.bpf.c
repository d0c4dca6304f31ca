// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Attempts to load a kernel module where the kernel has no modules: the calls do not
 * exist there, so nothing but the entrance of all calls shows them. Every call of
 * every process comes along here; only such kernels are made to pay for it.
 */
#include "call.h"

#define ENOSYS 38

/* Numbers of the calls on x86-64, and on arm64. */
#define X86_INIT_MODULE 175
#define X86_DELETE_MODULE 176
#define X86_FINIT_MODULE 313
#define ARM_INIT_MODULE 105
#define ARM_DELETE_MODULE 106
#define ARM_FINIT_MODULE 273

SEC("raw_tp/sys_enter")
int on_any_call(u64 *ctx)
{
	u64 number = ctx[1];
	struct pt_regs *regs = (void *)ctx[0];
	struct record_space *s;
	u32 call;

	if (bpf_core_field_exists(regs->di)) {
		if (number != X86_FINIT_MODULE && number - X86_INIT_MODULE > 1)
			return 0;
		call = number == X86_FINIT_MODULE ? CALL_FINIT_MODULE :
		       number == X86_INIT_MODULE  ? CALL_INIT_MODULE :
						    CALL_DELETE_MODULE;
	} else {
		if (number != ARM_FINIT_MODULE && number - ARM_INIT_MODULE > 1)
			return 0;
		call = number == ARM_FINIT_MODULE ? CALL_FINIT_MODULE :
		       number == ARM_INIT_MODULE  ? CALL_INIT_MODULE :
						    CALL_DELETE_MODULE;
	}
	s = begin_act(ACT_MODULE, COUNT_MODULE_LOAD);
	if (!s)
		return 0;
	s->act.numbers[0] = call;
	s->act.result = -ENOSYS;
	if (call == CALL_FINIT_MODULE)
		put_file_text(s, 0, file_of(call_argument(0)), EXECUTABLE_END);
	if (call == CALL_INIT_MODULE)
		s->act.numbers[1] = call_argument(1);
	if (call == CALL_DELETE_MODULE)
		put_user_text(s, 1, call_argument(0), EXECUTABLE_END + TEXT_SPACE);
	end_act(s, COUNT_MODULE_LOAD, false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
