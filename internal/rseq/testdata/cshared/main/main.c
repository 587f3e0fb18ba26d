// A program in C that calls Go from its main thread and from threads of its own.
#include <pthread.h>

int Run(void);

static void *call(void *unused)
{
	return Run() ? (void *)1 : 0;
}

int main(void)
{
	pthread_t threads[2];
	void *bad = call(0);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], 0, call, 0);
	for (int i = 0; i < 2; i++) {
		void *answer;
		pthread_join(threads[i], &answer);
		if (answer)
			bad = answer;
	}
	return bad != 0;
}
