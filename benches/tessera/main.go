// Tessera's POSIX log behind the same interface as its conformance server (v1.0.4), which fixes its timers: batches wait for 1 s or
// 256 entries, checkpoints for 1 s. Here they are flags, so that Tessera can be measured at timers that suit one machine as well.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	folder := flag.String("storage_dir", "", "folder of the log")
	listen := flag.String("listen", "127.0.0.1:2025", "address to listen on")
	keyFile := flag.String("private_key", "", "file of the log's private key")
	batchSize := flag.Uint("batch_size", 256, "entries in a batch, at most")
	batchAge := flag.Duration("batch_age", time.Second, "how long a batch waits for more, at most")
	checkpoint := flag.Duration("checkpoint_interval", time.Second, "between two checkpoints, at least")
	flag.Parse()

	key, err := os.ReadFile(*keyFile)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := note.NewSigner(string(key))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	driver, err := posix.New(ctx, posix.Config{Path: *folder})
	if err != nil {
		log.Fatal(err)
	}
	appender, _, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(*checkpoint).
		WithBatching(*batchSize, *batchAge).
		WithAntispam(tessera.DefaultAntispamInMemorySize, nil))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /add", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		index, err := appender.Add(r.Context(), tessera.NewEntry(body))()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%d", index.Index)
	})
	files := http.FileServer(http.Dir(*folder))
	http.Handle("GET /checkpoint", files)
	http.Handle("GET /tile/", files)
	log.Fatal(http.ListenAndServe(*listen, nil))
}
