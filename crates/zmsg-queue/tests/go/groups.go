package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

// Tasks of the group "mail"; every other one has an id that is the user's.
func group(redis asynq.RedisConnOpt, queue string, count int) {
	client := asynq.NewClient(redis)
	defer client.Close()
	for n := 0; n < count; n++ {
		options := []asynq.Option{asynq.Queue(queue), asynq.Group("mail"), asynq.Timeout(time.Minute)}
		if n%2 == 1 {
			options = append(options, asynq.TaskID(fmt.Sprintf("mail:%d", n)))
		}
		_, err := client.Enqueue(asynq.NewTask("greet", []byte(fmt.Sprintf("go%d", n))), options...)
		fail(err)
	}
}

// Aggregates groups after a second, and ends when it has worked so many aggregates.
func aggregate(redis asynq.RedisConnOpt, queue string, count int) {
	join := func(group string, tasks []*asynq.Task) *asynq.Task {
		payloads := []string{}
		for _, task := range tasks {
			payloads = append(payloads, string(task.Payload()))
		}
		return asynq.NewTask("digest", []byte(group+": "+strings.Join(payloads, " ")))
	}
	server := asynq.NewServer(redis, asynq.Config{
		Concurrency:      4,
		Queues:           map[string]int{queue: 1},
		LogLevel:         asynq.FatalLevel,
		ShutdownTimeout:  5 * time.Second,
		GroupGracePeriod: time.Second,
		GroupAggregator:  asynq.GroupAggregatorFunc(join),
	})
	serve(server, count, func(_ context.Context, task *asynq.Task) error {
		fmt.Printf("%s %s\n", task.Type(), task.Payload())
		return nil
	})
}

// The groups of a queue, and the members of "mail".
func groups(inspector *asynq.Inspector, queue string) {
	info, err := inspector.GetQueueInfo(queue)
	fail(err)
	all, err := inspector.Groups(queue)
	fail(err)
	sizes := map[string]int{}
	for _, group := range all {
		sizes[group.Group] = group.Size
	}
	listed := []string{}
	if sizes["mail"] > 0 {
		tasks, err := inspector.ListAggregatingTasks(queue, "mail")
		fail(err)
		for _, task := range tasks {
			listed = append(listed, fmt.Sprintf("%s %s %s %v", task.ID, task.Payload, task.Group, task.State))
		}
	}
	fail(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"aggregating": info.Aggregating,
		"pending":     info.Pending,
		"archived":    info.Archived,
		"groups":      sizes,
		"listed":      listed,
	}))
}
