package bench

func floorAlloc(f *floor)

func floorFree(f *floor, obj uintptr)
