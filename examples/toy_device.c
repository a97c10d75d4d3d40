/* A device model that writes guest memory and logs which pages: what test_device_in_c.py tests.
 *
 * One bit for each page, bit n % 64 of word n / 64; pages are counted from the start of the range,
 * which need not be a multiple of the page size. Writes may come from any thread.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

struct device {
	uint64_t iova, length;
	unsigned shift; /* of the page size */
	uint64_t nwords;
	_Atomic uint64_t log[];
};

/* A device with `length` bytes of memory from `iova` on, all clean; NULL where there is no memory. */
struct device *device_start(uint64_t iova, uint64_t length, unsigned shift)
{
	uint64_t npages = ((length - 1) >> shift) + 1;
	uint64_t nwords = (npages + 63) / 64;
	struct device *dev = calloc(1, sizeof *dev + nwords * sizeof dev->log[0]);

	if (dev) {
		dev->iova = iova;
		dev->length = length;
		dev->shift = shift;
		dev->nwords = nwords;
	}
	return dev;
}

/* The device writes these bytes, which lie inside its range; length is 1 or more. */
void device_write(struct device *dev, uint64_t iova, uint64_t length)
{
	uint64_t first = (iova - dev->iova) >> dev->shift;
	uint64_t last = (iova - dev->iova + length - 1) >> dev->shift;

	for (uint64_t page = first; page <= last; page++)
		atomic_fetch_or(&dev->log[page / 64], UINT64_C(1) << page % 64);
}

/* Copies the log to `words`, of which there are as many as bits for all pages need. */
void device_read_log(struct device *dev, uint64_t *words)
{
	for (uint64_t i = 0; i < dev->nwords; i++)
		words[i] = atomic_load(&dev->log[i]);
}

/* The same, and leaves it clean: each page is in this log, or in the next one. */
void device_take_log(struct device *dev, uint64_t *words)
{
	for (uint64_t i = 0; i < dev->nwords; i++)
		words[i] = atomic_exchange(&dev->log[i], 0);
}

void device_stop(struct device *dev)
{
	free(dev);
}
