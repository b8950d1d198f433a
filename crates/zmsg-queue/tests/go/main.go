// Command interop is the other side of a test: a client, a worker and an inspector of Go's asynq.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

func main() {
	if len(os.Args) != 5 {
		fail(errors.New("usage: interop enqueue|work|hold|fail|inspect|pause|unpause URL QUEUE COUNT, run|archive|delete URL QUEUE ID"))
	}
	// Nobody waits for it longer than that.
	time.AfterFunc(time.Minute, func() { fail(errors.New("it took too long")) })
	redis, err := asynq.ParseRedisURI(os.Args[2])
	fail(err)
	queue := os.Args[3]
	inspector := asynq.NewInspector(redis)
	defer inspector.Close()
	switch os.Args[1] {
	case "pause":
		fail(inspector.PauseQueue(queue))
		return
	case "unpause":
		fail(inspector.UnpauseQueue(queue))
		return
	case "run":
		fail(inspector.RunTask(queue, os.Args[4]))
		return
	case "archive":
		fail(inspector.ArchiveTask(queue, os.Args[4]))
		return
	case "delete":
		fail(inspector.DeleteTask(queue, os.Args[4]))
		return
	case "cancel":
		fail(inspector.CancelProcessing(os.Args[4]))
		return
	case "servers":
		servers(inspector)
		return
	case "schedulers":
		schedulers(inspector)
		return
	case "events":
		events(inspector, os.Args[4])
		return
	}
	count, err := strconv.Atoi(os.Args[4])
	fail(err)
	switch os.Args[1] {
	case "enqueue":
		enqueue(redis, queue, count)
	case "work":
		work(redis, queue, count, nil)
	case "hold":
		hold(redis, queue)
	case "fail":
		work(redis, queue, count, errors.New("not today"))
	case "group":
		group(redis, queue, count)
	case "aggregate":
		aggregate(redis, queue, count)
	case "groups":
		groups(inspector, queue)
	case "unique":
		unique(redis, queue)
	case "keep":
		keep(redis, queue)
	case "completed":
		completed(redis, queue)
	case "inspect":
		inspect(inspector, queue)
	default:
		fail(errors.New("no such command"))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Ids of all kinds: asynq's own, and one of the user's. The last task is unique and due in a second.
func enqueue(redis asynq.RedisConnOpt, queue string, count int) {
	client := asynq.NewClient(redis)
	defer client.Close()
	for n := 0; n < count; n++ {
		options := []asynq.Option{asynq.Queue(queue), asynq.MaxRetry(2), asynq.Timeout(time.Minute)}
		if n%2 == 1 {
			options = append(options, asynq.TaskID(fmt.Sprintf("report:%d", n)))
		}
		if n == count-1 {
			options = append(options, asynq.ProcessIn(time.Second), asynq.Unique(time.Hour))
		}
		info, err := client.Enqueue(asynq.NewTask("greet", []byte(fmt.Sprintf("go %d", n))), options...)
		fail(err)
		fmt.Println(info.ID)
	}
}

// Ends when it has seen so many tasks.
func work(redis asynq.RedisConnOpt, queue string, count int, answer error) {
	server := asynq.NewServer(redis, asynq.Config{
		Concurrency:     4,
		Queues:          map[string]int{queue: 1},
		LogLevel:        asynq.FatalLevel,
		RetryDelayFunc:  func(int, error, *asynq.Task) time.Duration { return time.Second },
		ShutdownTimeout: 5 * time.Second,
	})
	serve(server, count, func(ctx context.Context, task *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		fmt.Printf("%s %s %s\n", id, task.Type(), task.Payload())
		return answer
	})
}

// One task after the other, until so many were seen.
func serve(server *asynq.Server, count int, handle asynq.HandlerFunc) {
	done := make(chan struct{})
	var mutex sync.Mutex
	seen := 0
	fail(server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		mutex.Lock()
		defer mutex.Unlock()
		answer := handle(ctx, task)
		seen++
		if seen == count {
			close(done)
		}
		return answer
	})))
	<-done
	server.Shutdown()
}

// Holds the next task until somebody cancels it, and ends.
func hold(redis asynq.RedisConnOpt, queue string) {
	server := asynq.NewServer(redis, asynq.Config{
		Queues:         map[string]int{queue: 1},
		LogLevel:       asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	done := make(chan struct{})
	fail(server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		<-ctx.Done()
		close(done)
		return ctx.Err()
	})))
	<-done
	server.Shutdown()
}

// A task of a kind and payload that are the test's, to be unique for an hour.
func unique(redis asynq.RedisConnOpt, queue string) {
	client := asynq.NewClient(redis)
	defer client.Close()
	_, err := client.Enqueue(asynq.NewTask("greet", []byte("only one")), asynq.Queue(queue), asynq.Unique(time.Hour))
	switch {
	case errors.Is(err, asynq.ErrDuplicateTask):
		fmt.Println("refused")
	case err == nil:
		fmt.Println("accepted")
	default:
		fail(err)
	}
}

// A task that is to be kept when it is done.
func keep(redis asynq.RedisConnOpt, queue string) {
	client := asynq.NewClient(redis)
	defer client.Close()
	info, err := client.Enqueue(asynq.NewTask("greet", []byte("keep me")), asynq.Queue(queue), asynq.Retention(time.Hour))
	fail(err)
	fmt.Println(info.ID)
}

// Who works, and at what.
func servers(inspector *asynq.Inspector) {
	all, err := inspector.Servers()
	fail(err)
	for _, server := range all {
		fmt.Printf("%s %d %v %v %s", server.Host, server.Concurrency, server.Queues, server.StrictPriority, server.Status)
		for _, worker := range server.ActiveWorkers {
			fmt.Printf(" %s %s %s %s", worker.TaskID, worker.TaskType, worker.TaskPayload, worker.Queue)
		}
		fmt.Println()
	}
}

// What runs again and again, what it is to make, and when; the second only where it is far off.
func schedulers(inspector *asynq.Inspector) {
	entries, err := inspector.SchedulerEntries()
	fail(err)
	for _, entry := range entries {
		fmt.Printf("%s %s %s %s %v", entry.ID, entry.Spec, entry.Task.Type(), entry.Task.Payload(), entry.Opts)
		if entry.Prev.IsZero() {
			fmt.Printf(" never %d", entry.Next.Unix())
		} else if entry.Next.After(entry.Prev) {
			fmt.Print(" fired")
		}
		fmt.Println()
	}
}

// What an entry has enqueued, and when.
func events(inspector *asynq.Inspector, entry string) {
	all, err := inspector.ListSchedulerEnqueueEvents(entry)
	fail(err)
	for _, event := range all {
		fmt.Printf("%s %d\n", event.TaskID, event.EnqueuedAt.Unix())
	}
}

func completed(redis asynq.RedisConnOpt, queue string) {
	inspector := asynq.NewInspector(redis)
	defer inspector.Close()
	tasks, err := inspector.ListCompletedTasks(queue)
	fail(err)
	for _, task := range tasks {
		fmt.Printf("%s %s %v\n", task.ID, task.Result, !task.CompletedAt.IsZero() && task.Retention == time.Hour)
	}
}

func inspect(inspector *asynq.Inspector, queue string) {
	queues, err := inspector.Queues()
	fail(err)
	info, err := inspector.GetQueueInfo(queue)
	fail(err)
	archived, err := inspector.ListArchivedTasks(queue)
	fail(err)
	scheduled, err := inspector.ListScheduledTasks(queue)
	fail(err)
	retry, err := inspector.ListRetryTasks(queue)
	fail(err)
	active, err := inspector.ListActiveTasks(queue)
	fail(err)
	letters := []string{}
	for _, task := range archived {
		letters = append(letters, task.ID+" "+task.LastErr)
	}
	fail(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"queues":    queues,
		"paused":    info.Paused,
		"pending":   info.Pending,
		"active":    info.Active,
		"scheduled": info.Scheduled,
		"retry":     info.Retry,
		"archived":  info.Archived,
		"processed": info.Processed,
		"failed":    info.Failed,
		"listed":    []int{len(scheduled), len(retry), len(active)},
		"letters":   letters,
	}))
}
