# The kernel lab: tests that need what this machine may not have, on another kernel in QEMU.

.PHONY: kernel-lab

LAB := build/kernel-lab
LAB_TESTS ?= -k "kvm or vfio or dirty" tests/uapi/test_kvm.py tests/uapi/test_vfio_real.py \
	tests/sources/test_soft_dirty.py tests/sources/test_every_source.py \
	tests/guests/test_qemu_kvm.py
LAB_ARGS ?=

# Layouts are compared here, with that kernel's headers: a compiler is slow in there.
kernel-lab: $(VENV)/.extra-test ## KVM, soft-dirty and VFIO on another kernel; LAB_ARGS="--kernel bzImage"
	$(BIN)/python tools/kernel_lab/boot.py --folder $(LAB) $(LAB_ARGS) -- \
		env IOVABITMAP_QEMU=1 $(abspath $(BIN))/python -m pytest -p no:cacheprovider $(LAB_TESTS)
	@headers=$$($(BIN)/python tools/kernel_lab/packages.py $(LAB) trixie linux-libc-dev) || exit 0; \
		include=$$headers/usr/include; \
		IOVABITMAP_UAPI_HEADERS=$$include:$$include/x86_64-linux-gnu \
		$(BIN)/pytest tests/uapi/test_layout.py
