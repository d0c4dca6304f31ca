/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Files as the programs meet them: by descriptor, by inode, and by a path that a
 * call was given.
 */
#ifndef RAMPART_FILE_H
#define RAMPART_FILE_H

#include "act.h"

#define S_IFIFO 0010000
#define S_IFCHR 0020000
#define S_IFDIR 0040000
#define S_IFBLK 0060000
#define S_IFREG 0100000

#define AT_FDCWD -100
#define AT_REMOVEDIR 0x200
#define AT_EMPTY_PATH 0x1000

#define EPERM 1
#define EACCES 13

#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270
#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define DEBUGFS_MAGIC 0x64626720
#define TRACEFS_MAGIC 0x74726163
#define SECURITYFS_MAGIC 0x73636673
#define BPF_FS_MAGIC 0xcafe4a11
#define CONFIGFS_MAGIC 0x62656570
#define DEVPTS_SUPER_MAGIC 0x1cd1

/* As PATH_MAX: the kernel takes no longer path. */
#define GIVEN_SPACE 4096u
#define TREE_SPACE (GIVEN_SPACE + NAME_SPACE)
/* Two paths with where they begin are the most that one act has. */
#define TREES_END (2 * (GIVEN_SPACE + TREE_SPACE))

/* The numbers of an act on a file whose inode is known. */
#define FILE_INODE 0
#define FILE_DEVICE 1 /* the kernel's dev_t */
#define FILE_MODE 2   /* type and permissions */
#define FILE_OWNER 3  /* uid, and gid << 32 */
#define FILE_SIZE 4
#define FILE_MODIFIED 5 /* nanoseconds since the epoch */
/* What these are is the type's own (act.h). */
#define FILE_NEW 6
#define FILE_OLD 7
#define FILE_KNOWN 8

/* The bits of FILE_KNOWN. */
#define KNOWN_INODE 1 /* numbers 0 to 5; text 0 is then the path as the kernel walks it */
#define KNOWN_OLD 2
#define KNOWN_SAME_BASE 4 /* text 2 begins where text 0 does */

/* File systems that are interfaces of the kernel, not places for files. */
static __always_inline bool holds_files(struct inode *inode)
{
	switch ((u32)LOOK(LOOK(inode, i_sb), s_magic)) {
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case BPF_FS_MAGIC:
	case CONFIGFS_MAGIC:
	case DEVPTS_SUPER_MAGIC:
		return false;
	}
	return true;
}

static __always_inline u64 modified_ns(struct inode *inode)
{
	struct inode___timespec *timespec = (void *)inode;
	struct inode___old *old = (void *)inode;

	if (bpf_core_field_exists(inode->i_mtime_sec))
		return (u64)LOOK(inode, i_mtime_sec) * 1000000000ull + LOOK(inode, i_mtime_nsec);
	if (bpf_core_field_exists(timespec->__i_mtime))
		return (u64)LOOK(timespec, __i_mtime.tv_sec) * 1000000000ull +
		       LOOK(timespec, __i_mtime.tv_nsec);
	return (u64)LOOK(old, i_mtime.tv_sec) * 1000000000ull + LOOK(old, i_mtime.tv_nsec);
}

static __always_inline u64 owner_of(struct inode *inode)
{
	return LOOK(inode, i_uid.val) | (u64)LOOK(inode, i_gid.val) << 32;
}

static __always_inline void put_inode(struct act_record *act, struct inode *inode)
{
	act->numbers[FILE_INODE] = LOOK(inode, i_ino);
	act->numbers[FILE_DEVICE] = LOOK(LOOK(inode, i_sb), s_dev);
	act->numbers[FILE_MODE] = LOOK(inode, i_mode);
	act->numbers[FILE_OWNER] = owner_of(inode);
	act->numbers[FILE_SIZE] = LOOK(inode, i_size);
	act->numbers[FILE_MODIFIED] = modified_ns(inode);
	act->numbers[FILE_KNOWN] |= KNOWN_INODE;
}

/* No path has more parts; mounts come to it. */
#define STEPS_MAX (GIVEN_SPACE / 2 + 256)

struct walk {
	struct record_space *s;
	struct dentry *dentry;
	struct mount *mount;
	struct dentry *mount_root;
	u32 last; /* where a name may begin at most */
	u32 cut;
};

static int walk_step(u32 step, struct walk *walk)
{
	struct dentry *dentry = walk->dentry;
	struct mount *mount = walk->mount;
	struct record_space *s = walk->s;
	struct dentry *parent;
	u32 used;
	long n;

	(void)step;
	if (dentry == walk->mount_root) {
		struct mount *parent_mount = LOOK(mount, mnt_parent);

		if (parent_mount == mount) {
			walk->cut = 0;
			return 1;
		}
		walk->dentry = LOOK(mount, mnt_mountpoint);
		walk->mount = parent_mount;
		walk->mount_root = LOOK(parent_mount, mnt.mnt_root);
		return 0;
	}
	parent = LOOK(dentry, d_parent);
	used = s->used;
	if (used > walk->last || used > TREES_END)
		return 1;
	n = bpf_probe_read_kernel_str(s->data + used, NAME_SPACE, LOOK(dentry, d_name.name));
	if (n <= 0)
		return 1;
	s->used = used + (u32)n;
	if (parent == dentry) {
		walk->cut = 0;
		return 1;
	}
	walk->dentry = parent;
	return 0;
}

/* As put_path, in a loop whose body the kernel checks once: the programs here are
 * many, and each would take it long. */
static __always_inline void put_tree(struct record_space *s, u32 text, struct dentry *dentry, struct vfsmount *mnt, u32 end)
{
	u32 before = s->used;
	struct walk walk = {
		.s = s,
		.dentry = dentry,
		.mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt),
		.mount_root = LOOK(mnt, mnt_root),
		.last = end - NAME_SPACE,
		.cut = 1,
	};

	bpf_loop(STEPS_MAX, walk_step, &walk, 0);
	s->act.text_len[text] = s->used - before;
	if (walk.cut)
		s->act.head.flags |= 1 << text;
}

/* Text 0: the file's path by the kernel's own trees. */
static __always_inline void put_file_path(struct record_space *s, struct file *file)
{
	put_tree(s, 0, LOOK(file, f_path.dentry), LOOK(file, f_path.mnt), TREE_SPACE);
}

/* A path as it was given to the call. It was read by the kernel a moment ago, so it
 * is there; another thread may have changed it since (docs/limitations.md). Returns
 * its length, 0 if it can't be read. */
static __always_inline u32 put_given(struct record_space *s, u32 text, u64 pointer, u32 end)
{
	u32 used = s->used;
	long n;

	if (used > end - GIVEN_SPACE)
		return 0;
	n = bpf_probe_read_user_str(s->data + used, GIVEN_SPACE, (void *)pointer);
	if (n <= 0) {
		s->act.head.flags |= 1 << text;
		return 0;
	}
	s->act.text_len[text] = n - 1;
	s->used = used + (u32)n - 1;
	return n - 1;
}

/* Where a path that was given begins: at the working directory, at the directory
 * behind a descriptor, or at the root of a process that was moved to another. Nothing
 * for a path that begins at the root of all. */
static __always_inline void put_base(struct record_space *s, u32 text, u8 first, s32 dir, u32 end)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct fs_struct *fs = task->fs;
	struct dentry *dentry;
	struct vfsmount *mnt;

	if (first == '/') {
		struct mount *mount;

		mnt = fs->root.mnt;
		dentry = fs->root.dentry;
		mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
		if (dentry == mnt->mnt_root && LOOK(mount, mnt_parent) == mount)
			return;
	} else if (dir == AT_FDCWD) {
		mnt = fs->pwd.mnt;
		dentry = fs->pwd.dentry;
	} else {
		struct file *file = file_of((u32)dir);

		if (!file) {
			s->act.head.flags |= 1 << text;
			return;
		}
		mnt = LOOK(file, f_path.mnt);
		dentry = LOOK(file, f_path.dentry);
	}
	put_tree(s, text, dentry, mnt, end);
}

/* Two texts: a path as given, and behind it where it begins. */
static __always_inline void put_named(struct record_space *s, u32 text, s32 dir, u64 pointer, u32 end)
{
	u32 at = s->used;
	u8 first = 0;

	if (put_given(s, text, pointer, end - TREE_SPACE) && at < DATA_SPACE)
		first = s->data[at];
	put_base(s, text + 1, first, dir, end);
}

#endif
