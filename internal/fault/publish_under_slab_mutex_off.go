//go:build !fault_publish_under_slab_mutex

package fault

// PublishUnderSlabMutex is set by the build tag fault_publish_under_slab_mutex.
const PublishUnderSlabMutex = false
