// Command snowflake makes ids by bwmarrin/snowflake: nanoseconds of one, on each of several goroutines.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/bwmarrin/snowflake"

	"zmsg.test/peers/meter"
)

// epoch is the begin of 2021, as that of the ids it is beside.
const epoch = 1_609_459_200_000

func main() {
	if len(os.Args) != 5 {
		meter.Must(fmt.Errorf("usage: snowflake GOROUTINES NODE_BITS SEQUENCE_BITS ROUND"))
	}
	var numbers [3]int
	for at := range numbers {
		number, err := strconv.Atoi(os.Args[at+1])
		meter.Must(err)
		numbers[at] = number
	}
	round, err := time.ParseDuration(os.Args[4])
	meter.Must(err)
	snowflake.Epoch, snowflake.NodeBits, snowflake.StepBits = epoch, uint8(numbers[1]), uint8(numbers[2])
	node, err := snowflake.NewNode(1)
	meter.Must(err)
	var last [64]snowflake.ID
	fmt.Println(meter.Nanoseconds(numbers[0], round, func(goroutine int) func() {
		seen := &last[goroutine*8%len(last)]
		return func() { *seen = node.Generate() }
	}))
}
