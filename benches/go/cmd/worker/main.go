// Command worker is a worker of Go's asynq that does nothing with its tasks: how many it takes a second.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"zmsg.test/peers/meter"
)

func main() {
	if len(os.Args) != 4 {
		meter.Must(fmt.Errorf("usage: worker URL CONCURRENCY COUNT"))
	}
	redis, err := asynq.ParseRedisURI(os.Args[1])
	meter.Must(err)
	concurrency, err := strconv.Atoi(os.Args[2])
	meter.Must(err)
	count, err := strconv.Atoi(os.Args[3])
	meter.Must(err)
	server := asynq.NewServer(redis, asynq.Config{Concurrency: concurrency, LogLevel: asynq.FatalLevel})
	done := make(chan struct{})
	var seen atomic.Int64
	handle := func(context.Context, *asynq.Task) error {
		if seen.Add(1) == int64(count) {
			close(done)
		}
		return nil
	}
	began := time.Now()
	meter.Must(server.Start(asynq.HandlerFunc(handle)))
	<-done
	fmt.Println(time.Since(began).Nanoseconds())
	server.Shutdown()
}
