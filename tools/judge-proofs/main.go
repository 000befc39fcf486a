// judge-proofs lets transparency-dev/merkle, Go's reference for RFC 6962 proofs, judge proofs that are given on standard input, one a
// line, and answers each with a line `1` (it holds) or `0`. It shares no code with the ledger.
//
//	i <index> <size> <leaf hash> <root> <hash,hash,...>
//	c <older size> <newer size> <older root> <newer root> <hash,hash,...>
//
// Hashes are hexadecimal; a proof without hashes is `-`.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "judge-proofs:", err)
		os.Exit(2)
	}
	return value
}

func judge(words []string) error {
	one := must(strconv.ParseUint(words[1], 10, 64))
	other := must(strconv.ParseUint(words[2], 10, 64))
	first, second := must(hex.DecodeString(words[3])), must(hex.DecodeString(words[4]))
	var hashes [][]byte
	if words[5] != "-" {
		for _, word := range strings.Split(words[5], ",") {
			hashes = append(hashes, must(hex.DecodeString(word)))
		}
	}
	if words[0] == "i" {
		return proof.VerifyInclusion(rfc6962.DefaultHasher, one, other, first, hashes, second)
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, one, other, hashes, first, second)
}

func main() {
	in, out := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	in.Buffer(make([]byte, 1<<16), 1<<20)
	for in.Scan() {
		words := strings.Fields(in.Text())
		if len(words) != 6 || (words[0] != "i" && words[0] != "c") {
			fmt.Fprintln(os.Stderr, "judge-proofs: not a proof:", in.Text())
			os.Exit(2)
		}
		answer := "1\n"
		if judge(words) != nil {
			answer = "0\n"
		}
		must(out.WriteString(answer))
	}
	must(0, in.Err())
	must(0, out.Flush())
}
