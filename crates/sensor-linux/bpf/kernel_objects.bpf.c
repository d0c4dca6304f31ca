// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Files in memory, BPF programs, kernel modules and namespaces.
 */
#include "call.h"

#define CLONE_NEWTIME 0x00000080
#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000
#define CLONE_NEW \
	(CLONE_NEWTIME | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
	 CLONE_NEWNET)

#define BPF_PROG_LOAD 5
#define BPF_PROG_ATTACH 8
#define BPF_RAW_TRACEPOINT_OPEN 17
#define BPF_LINK_CREATE 28
/* Offsets in union bpf_attr (linux/bpf.h). */
#define ATTR_PROG_TYPE 0
#define ATTR_PROG_NAME 48
#define ATTR_PROG_EXPECTED_ATTACH_TYPE 68
#define ATTR_ATTACH_BPF_FD 4
#define ATTR_ATTACH_TYPE 8
#define ATTR_RAW_TRACEPOINT_NAME 0
#define ATTR_RAW_TRACEPOINT_PROG_FD 8
#define ATTR_LINK_PROG_FD 0
#define ATTR_LINK_ATTACH_TYPE 8

SEC("tracepoint/syscalls/sys_exit_memfd_create")
int exit_memfd_create(struct exit_args *ctx)
{
	struct record_space *s;
	struct file *file;

	s = begin_act(ACT_MEMFD_CREATE, COUNT_MEMFD_CREATE);
	if (!s)
		return 0;
	s->act.numbers[0] = (u32)call_argument(1);
	s->act.result = result_of(ctx->result);
	if (ctx->result >= 0) {
		file = file_of(ctx->result);
		s->act.numbers[1] = BPF_CORE_READ(file, f_inode, i_ino);
		put_kernel_text(s, 0, BPF_CORE_READ(file, f_path.dentry, d_name.name), SHORT_SPACE);
	} else {
		put_user_text(s, 0, call_argument(0), TEXT_SPACE);
	}
	end_act(s, COUNT_MEMFD_CREATE, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_unshare")
int exit_unshare(struct exit_args *ctx)
{
	u64 flags = call_argument(0);
	struct record_space *s;

	if (!(flags & CLONE_NEW))
		return 0;
	s = begin_act(ACT_UNSHARE, COUNT_NAMESPACE);
	if (!s)
		return 0;
	s->act.numbers[0] = flags & CLONE_NEW;
	s->act.result = result_of(ctx->result);
	end_act(s, COUNT_NAMESPACE, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_setns")
int exit_setns(struct exit_args *ctx)
{
	struct file *file = file_of(call_argument(0));
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct task_struct *target;
	struct ns_common *ns;
	struct record_space *s;

	s = begin_act(ACT_SETNS, COUNT_NAMESPACE);
	if (!s)
		return 0;
	s->act.numbers[0] = (u32)call_argument(1) & CLONE_NEW;
	s->act.result = result_of(ctx->result);
	if (BPF_CORE_READ(inode, i_sb, s_magic) == NSFS_MAGIC) {
		ns = BPF_CORE_READ(inode, i_private);
		s->act.numbers[1] = BPF_CORE_READ(ns, inum);
		put_kernel_text(s, 0, BPF_CORE_READ(ns, ops, name), SHORT_SPACE);
	} else if (ctx->result == 0) {
		/* What else is taken is a pidfd. */
		target = process_of_pidfd(file);
		if (target)
			set_target_process(&s->act, target);
	}
	end_act(s, COUNT_NAMESPACE, false);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int on_fork_namespaces(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	struct nsproxy *old = parent->nsproxy, *new = child->nsproxy;
	struct user_namespace *old_user = parent->cred->user_ns, *new_user = child->cred->user_ns;
	struct record_space *s;
	u64 flags = 0;

	if (old == new && old_user == new_user)
		return 0;
	if (old->mnt_ns != new->mnt_ns)
		flags |= CLONE_NEWNS;
	if (old->uts_ns != new->uts_ns)
		flags |= CLONE_NEWUTS;
	if (old->ipc_ns != new->ipc_ns)
		flags |= CLONE_NEWIPC;
	if (old->pid_ns_for_children != new->pid_ns_for_children)
		flags |= CLONE_NEWPID;
	if (old->net_ns != new->net_ns)
		flags |= CLONE_NEWNET;
	if (old->cgroup_ns != new->cgroup_ns)
		flags |= CLONE_NEWCGROUP;
	if (old->time_ns != new->time_ns)
		flags |= CLONE_NEWTIME;
	if (old_user != new_user)
		flags |= CLONE_NEWUSER;
	if (!flags)
		return 0;
	s = begin_act(ACT_CLONE_NAMESPACES, COUNT_NAMESPACE);
	if (!s)
		return 0;
	s->act.numbers[0] = flags;
	set_target_process(&s->act, child->group_leader);
	end_act(s, COUNT_NAMESPACE, false);
	return 0;
}

static __always_inline u32 attribute_u32(u64 attributes, u32 at)
{
	u32 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)(attributes + at));
	return value;
}

SEC("tracepoint/syscalls/sys_exit_bpf")
int exit_bpf(struct exit_args *ctx)
{
	u32 command = call_argument(0);
	u64 attributes, name = 0, type_of_link = 0;
	struct bpf_prog *program = 0;
	struct record_space *s;

	/* What is done to maps goes by in thousands. */
	if (command != BPF_PROG_LOAD && command != BPF_PROG_ATTACH && command != BPF_RAW_TRACEPOINT_OPEN &&
	    command != BPF_LINK_CREATE)
		return 0;
	attributes = call_argument(1);
	switch (command) {
	case BPF_PROG_LOAD:
		if (ctx->result >= 0)
			program = object_of(ctx->result);
		break;
	case BPF_PROG_ATTACH:
		program = object_of(attribute_u32(attributes, ATTR_ATTACH_BPF_FD));
		type_of_link = attribute_u32(attributes, ATTR_ATTACH_TYPE);
		break;
	case BPF_RAW_TRACEPOINT_OPEN:
		program = object_of(attribute_u32(attributes, ATTR_RAW_TRACEPOINT_PROG_FD));
		bpf_probe_read_user(&name, sizeof(name), (void *)(attributes + ATTR_RAW_TRACEPOINT_NAME));
		break;
	default:
		program = object_of(attribute_u32(attributes, ATTR_LINK_PROG_FD));
		type_of_link = attribute_u32(attributes, ATTR_LINK_ATTACH_TYPE);
	}
	s = begin_act(ACT_BPF, COUNT_BPF_LOAD);
	if (!s)
		return 0;
	s->act.numbers[0] = command;
	s->act.numbers[4] = type_of_link;
	s->act.result = result_of(ctx->result);
	if (program) {
		s->act.numbers[1] = BPF_CORE_READ(program, type);
		s->act.numbers[2] = BPF_CORE_READ(program, aux, id);
		bpf_probe_read_kernel(&s->act.numbers[3], 8, (void *)program + bpf_core_field_offset(struct bpf_prog, tag));
		s->act.numbers[5] = BPF_CORE_READ(program, expected_attach_type);
		put_kernel_text(s, 0, (void *)BPF_CORE_READ(program, aux) + bpf_core_field_offset(struct bpf_prog_aux, name),
				SHORT_SPACE);
		put_kernel_text(s, 1, BPF_CORE_READ(program, aux, attach_func_name), 2 * SHORT_SPACE);
	} else if (command == BPF_PROG_LOAD) {
		s->act.numbers[1] = attribute_u32(attributes, ATTR_PROG_TYPE);
		s->act.numbers[5] = attribute_u32(attributes, ATTR_PROG_EXPECTED_ATTACH_TYPE);
		if (!bpf_probe_read_user(s->data, 16, (void *)(attributes + ATTR_PROG_NAME))) {
			s->act.text_len[0] = 16;
			s->used = 16;
		}
	}
	if (name && !s->act.text_len[1])
		put_user_text(s, 1, name, 2 * SHORT_SPACE + TEXT_SPACE);
	end_act(s, COUNT_BPF_LOAD, false);
	return 0;
}

/* The module that a thread is loading, as the kernel names it. */
struct loading {
	char name[64];
	u64 signature;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, struct loading);
} modules SEC(".maps");

SEC("tp_btf/module_load")
int on_module_load(u64 *ctx)
{
	struct module *module = (void *)ctx[0];
	u64 thread = bpf_get_current_pid_tgid();
	struct loading loading = {};

	bpf_probe_read_kernel_str(loading.name, sizeof(loading.name),
				  (void *)module + bpf_core_field_offset(struct module, name));
	if (bpf_core_field_exists(module->sig_ok))
		loading.signature = BPF_CORE_READ(module, sig_ok) ? 2 : 1;
	bpf_map_update_elem(&modules, &thread, &loading, BPF_ANY);
	return 0;
}

static __always_inline int module_call(struct exit_args *ctx, u32 call)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct loading *loading = bpf_map_lookup_elem(&modules, &thread);
	struct record_space *s;

	s = begin_act(ACT_MODULE, COUNT_MODULE_LOAD);
	if (!s)
		return 0;
	s->act.numbers[0] = call;
	s->act.result = result_of(ctx->result);
	if (call == CALL_FINIT_MODULE)
		put_file_text(s, 0, file_of(call_argument(0)), EXECUTABLE_END);
	if (call == CALL_INIT_MODULE)
		s->act.numbers[1] = call_argument(1);
	if (call == CALL_DELETE_MODULE) {
		put_user_text(s, 1, call_argument(0), EXECUTABLE_END + TEXT_SPACE);
	} else if (loading) {
		s->act.numbers[2] = loading->signature;
		put_kernel_text(s, 1, loading->name, EXECUTABLE_END + SHORT_SPACE);
		bpf_map_delete_elem(&modules, &thread);
	}
	end_act(s, COUNT_MODULE_LOAD, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_init_module")
int exit_init_module(struct exit_args *ctx)
{
	return module_call(ctx, CALL_INIT_MODULE);
}

SEC("tracepoint/syscalls/sys_exit_finit_module")
int exit_finit_module(struct exit_args *ctx)
{
	return module_call(ctx, CALL_FINIT_MODULE);
}

SEC("tracepoint/syscalls/sys_exit_delete_module")
int exit_delete_module(struct exit_args *ctx)
{
	return module_call(ctx, CALL_DELETE_MODULE);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
