// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Memory that can be executed: libraries, and what injected code needs.
 *
 * Every program maps memory dozens of times as it starts; what is not to be
 * executed leaves at once.
 */
#include "call.h"

#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20
#define S_IWOTH 2
#define S_IFREG 0x8000

/* A program with a compiler in it does this all the time. */
#define EXECUTABLE_SPAN (60 * SECOND)
/* All processes of a program load the same libraries. */
#define LIBRARY_SPAN (60 * SECOND)

static __always_inline int tell_executable(u32 call, u64 address, u64 bytes, u64 protection, u32 backing,
					   struct file *file)
{
	struct task_struct *leader = own_leader();
	struct fold_key key = {
		.who = leader->start_boottime,
		.what = (u64)ACT_EXECUTABLE_MEMORY << 40 | protection << 16 | backing << 8 | call,
	};
	struct record_space *s;
	u64 count = fold(&key, EXECUTABLE_SPAN, COUNT_PROCESS_TAMPER);

	if (!count)
		return 0;
	s = begin_acts(ACT_EXECUTABLE_MEMORY, COUNT_PROCESS_TAMPER, count);
	if (!s)
		return 0;
	set_target_process(&s->act, leader);
	s->act.numbers[0] = address;
	s->act.numbers[1] = bytes;
	s->act.numbers[2] = protection;
	s->act.numbers[3] = call;
	s->act.numbers[4] = backing;
	s->act.numbers[COUNT_AT] = count;
	if (file)
		put_file_text(s, 0, file, EXECUTABLE_END);
	end_acts(s, COUNT_PROCESS_TAMPER, count, false);
	return 0;
}

/* A file in memory has a name with this before it, and is in no directory. */
static __always_inline bool is_memfd(struct dentry *dentry)
{
	char name[8] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
	return name[0] == 'm' && name[1] == 'e' && name[2] == 'm' && name[3] == 'f' && name[4] == 'd' && name[5] == ':';
}

static __always_inline int tell_library(struct file *file)
{
	struct inode *inode = LOOK(file, f_inode);
	u32 mode = LOOK(inode, i_mode), device = LOOK(LOOK(inode, i_sb), s_dev);
	u32 odd = 0;
	struct fold_key key = { .who = own_image(), .whom = LOOK(inode, i_ino) };
	struct record_space *s;
	u64 count;

	if ((mode & S_IFMT) != S_IFREG)
		return 0;
	if (!LOOK(inode, i_nlink))
		odd = is_memfd(BPF_CORE_READ(file, f_path.dentry)) ? LIBRARY_MEMFD : LIBRARY_DELETED;
	if (mode & S_IWOTH)
		odd |= LIBRARY_WORLD_WRITABLE;
	/* What is odd is told for each process. */
	if (odd)
		key.who = own_leader()->start_boottime;
	key.what = (u64)ACT_IMAGE_LOAD << 40 | device;
	count = fold(&key, LIBRARY_SPAN, COUNT_IMAGE_LOAD);
	if (!count)
		return 0;
	s = begin_acts(ACT_IMAGE_LOAD, COUNT_IMAGE_LOAD, count);
	if (!s)
		return 0;
	s->act.numbers[0] = key.whom;
	s->act.numbers[1] = device;
	s->act.numbers[2] = odd;
	s->act.numbers[COUNT_AT] = count;
	put_file_text(s, 0, file, EXECUTABLE_END);
	end_acts(s, COUNT_IMAGE_LOAD, count, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mmap")
int exit_mmap(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	u64 protection = argument_of(regs, 2);
	struct file *file;
	bool anonymous;

	if (!(protection & PROT_EXEC) || is_error(ctx->result))
		return 0;
	anonymous = argument_of(regs, 3) & MAP_ANONYMOUS;
	file = anonymous ? 0 : file_of(argument_of(regs, 4));
	if (anonymous || (protection & PROT_WRITE))
		tell_executable(CALL_MMAP, ctx->result, argument_of(regs, 1), protection & 7,
				anonymous ? BACKED_BY_NOTHING : BACKED_BY_FILE, file);
	if (file)
		tell_library(file);
	return 0;
}

struct backing {
	u32 kind;
};

static long look_at_mapping(struct task_struct *task __attribute__((unused)), struct vm_area_struct *vma, struct backing *backing)
{
	if (!vma->vm_file)
		backing->kind = BACKED_BY_NOTHING;
	else
		backing->kind = vma->anon_vma ? BACKED_BY_CHANGED_COPY : BACKED_BY_FILE;
	return 0;
}

static __always_inline int protected(struct exit_args *ctx, u32 call)
{
	u64 protection = call_argument(2), address;
	struct backing backing = {};

	if (!(protection & PROT_EXEC) || ctx->result)
		return 0;
	address = call_argument(0);
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_find_vma))
		bpf_find_vma((void *)bpf_get_current_task_btf(), address, look_at_mapping, &backing, 0);
	/* A file's own content made executable is what loaders do. */
	if (!(protection & PROT_WRITE) && backing.kind == BACKED_BY_FILE)
		return 0;
	return tell_executable(call, address, call_argument(1), protection & 7, backing.kind, 0);
}

SEC("tracepoint/syscalls/sys_exit_mprotect")
int exit_mprotect(struct exit_args *ctx)
{
	return protected(ctx, CALL_MPROTECT);
}

SEC("tracepoint/syscalls/sys_exit_pkey_mprotect")
int exit_pkey_mprotect(struct exit_args *ctx)
{
	return protected(ctx, CALL_PKEY_MPROTECT);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
