// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * File systems that are mounted, moved and unmounted.
 */
#include "call.h"

#define AT_FDCWD -100
#define MOVE_MOUNT_F_EMPTY_PATH 0x4

/* Where a name as given begins, if it does not begin at the root. */
static __always_inline void put_directory(struct record_space *s, u32 index, s32 descriptor, u32 end)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	if (descriptor == AT_FDCWD)
		put_path_text(s, index, BPF_CORE_READ(task, fs, pwd.dentry), BPF_CORE_READ(task, fs, pwd.mnt), end);
	else
		put_file_text(s, index, file_of(descriptor), end);
}

SEC("tracepoint/syscalls/sys_exit_mount")
int exit_mount(struct exit_args *ctx)
{
	struct record_space *s = begin_act(ACT_MOUNT, COUNT_MOUNT);

	if (!s)
		return 0;
	s->act.numbers[0] = call_argument(3);
	s->act.result = result_of(ctx->result);
	put_user_text(s, 0, call_argument(1), TEXT_SPACE);
	put_user_text(s, 1, call_argument(0), 2 * TEXT_SPACE);
	put_user_text(s, 2, call_argument(2), 3 * TEXT_SPACE);
	put_directory(s, 3, AT_FDCWD, 4 * TEXT_SPACE);
	end_act(s, COUNT_MOUNT, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_umount")
int exit_umount(struct exit_args *ctx)
{
	struct record_space *s = begin_act(ACT_UMOUNT, COUNT_MOUNT);

	if (!s)
		return 0;
	s->act.numbers[0] = call_argument(1);
	s->act.result = result_of(ctx->result);
	put_user_text(s, 0, call_argument(0), TEXT_SPACE);
	put_directory(s, 3, AT_FDCWD, 2 * TEXT_SPACE);
	end_act(s, COUNT_MOUNT, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_move_mount")
int exit_move_mount(struct exit_args *ctx)
{
	struct record_space *s = begin_act(ACT_MOVE_MOUNT, COUNT_MOUNT);
	struct mount *mount;
	struct file *file;
	struct vfsmount *vfsmount;

	if (!s)
		return 0;
	s->act.result = result_of(ctx->result);
	if (call_argument(4) & MOVE_MOUNT_F_EMPTY_PATH) {
		/* The descriptor is the mount, which by now has its place. */
		file = file_of(call_argument(0));
		vfsmount = BPF_CORE_READ(file, f_path.mnt);
		mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
		s->act.numbers[0] = 1;
		if (!ctx->result)
			put_path_text(s, 0, BPF_CORE_READ(vfsmount, mnt_root), vfsmount, TEXT_SPACE);
		put_kernel_text(s, 1, BPF_CORE_READ(mount, mnt_devname), 2 * TEXT_SPACE);
		put_kernel_text(s, 2, BPF_CORE_READ(vfsmount, mnt_sb, s_type, name), 2 * TEXT_SPACE + SHORT_SPACE);
	} else {
		put_user_text(s, 1, call_argument(1), 2 * TEXT_SPACE);
	}
	if (!s->act.text_len[0])
		put_user_text(s, 3, call_argument(3), 4 * TEXT_SPACE);
	end_act(s, COUNT_MOUNT, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_pivot_root")
int exit_pivot_root(struct exit_args *ctx)
{
	struct record_space *s = begin_act(ACT_PIVOT_ROOT, COUNT_MOUNT);

	if (!s)
		return 0;
	s->act.result = result_of(ctx->result);
	put_user_text(s, 0, call_argument(0), TEXT_SPACE);
	put_directory(s, 3, AT_FDCWD, 2 * TEXT_SPACE);
	end_act(s, COUNT_MOUNT, false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
