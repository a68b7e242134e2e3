// Command ferretdb serves the MongoDB wire protocol for the catalogue's tests, on loopback unless
// another address is asked for.
//
// FerretDB's own command cannot be installed with `go install` (it needs version files that
// only its release build makes); its embeddable package can. The URL is printed on the first
// line; the server ends when its standard input does, so it never outlives the tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	directory := flag.String("directory", "", "existing folder for the SQLite files")
	listen := flag.String("listen", "127.0.0.1:0", "address and port to listen on; port 0: any free one")
	flag.Parse()
	if *directory == "" {
		log.Fatal("-directory names the folder for the SQLite files; it was not given")
	}

	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: *listen},
		Handler:   "sqlite",
		SQLiteURL: "file:" + *directory + "/",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(server.MongoDBURI())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := server.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
