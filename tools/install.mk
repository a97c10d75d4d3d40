# The engine for C programs, without Python: headers, a static and a shared library, and what
# pkg-config tells of them. docs/c-users.md is for those who use it. Included by the Makefile.
#
# Only what iova_bitmap.h needs: the write tracker (csrc/core/sources) has no public header. The
# shared library is one of ELF's, by GNU ld's options, as on Linux and the BSDs.

.PHONY: install-c

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=
INSTALL ?= install
C_BUILD ?= build/install
# What a packager may set; all else is needed.
CFLAGS ?= -O3 -DNDEBUG
C_FLAGS := -std=c11 -D_GNU_SOURCE -fPIC -Wall -Wextra -pthread -Icsrc -Icsrc/include
C_HEADERS := csrc/include/iova_bitmap.h csrc/include/iovabitmap_api.h
C_SOURCES := $(wildcard $(addprefix csrc/core/,bits/*.c bitmap/*.c pin/*.c ops/*.c))
C_OBJECTS := $(C_SOURCES:csrc/core/%.c=$(C_BUILD)/%.o)
C_MAP := csrc/core/iova_bitmap.map

C_VERSION = $(shell sed -n 's/^.define IOVA_BITMAP_VERSION_[MP][A-Z]* //p' csrc/include/iova_bitmap.h | paste -sd. -)
# The first number of the shared library's name: another one when a program that was linked with it
# would no longer run.
C_SONAME := libiova_bitmap.so.0
C_STATIC := $(C_BUILD)/libiova_bitmap.a
C_SHARED := $(C_BUILD)/$(C_SONAME)

$(C_BUILD)/%.o: csrc/core/%.c Makefile tools/install.mk
	@mkdir -p $(@D)
	@$(CC) $(C_FLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

-include $(wildcard $(C_BUILD)/*/*.d)

$(C_STATIC): $(C_OBJECTS)
	@rm -f $@
	@$(AR) rcs $@ $^

$(C_SHARED): $(C_OBJECTS) $(C_MAP)
	@$(CC) -shared -pthread $(CFLAGS) $(LDFLAGS) -Wl,-soname,$(C_SONAME) -Wl,--version-script,$(C_MAP) \
		-Wl,-z,defs $(C_OBJECTS) -o $@

# Folders below the prefix are told by it, so that the whole can be moved.
C_BELOW = $(patsubst $(abspath $(PREFIX))/%,$${prefix}/%,$(abspath $(1)))

define C_PKG_CONFIG
prefix=$(abspath $(PREFIX))
libdir=$(call C_BELOW,$(LIBDIR))
includedir=$(call C_BELOW,$(INCLUDEDIR))

Name: iova_bitmap
Description: Dirty-page bitmaps over I/O virtual addresses
Version: $(C_VERSION)
Cflags: -I$${includedir}
Libs: -L$${libdir} -liova_bitmap
Libs.private: -pthread
endef
export C_PKG_CONFIG

install-c: $(C_STATIC) $(C_SHARED) ## The engine for C programs, to PREFIX=/usr/local, below DESTDIR if that is given
	@mkdir -p $(addprefix $(DESTDIR),$(INCLUDEDIR) $(LIBDIR)/pkgconfig)
	$(INSTALL) -m 644 $(C_HEADERS) $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 644 $(C_STATIC) $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 755 $(C_SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf $(C_SONAME) $(DESTDIR)$(LIBDIR)/libiova_bitmap.so
	@echo "$$C_PKG_CONFIG" > $(DESTDIR)$(LIBDIR)/pkgconfig/iova_bitmap.pc
